SELECT uper(card_id) AS card
FROM payments;
