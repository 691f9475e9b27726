SELECT amount + card_id AS x
FROM payments;
