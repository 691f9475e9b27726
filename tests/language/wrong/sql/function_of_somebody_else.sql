SELECT array_agg(card_id) AS cards
FROM payments;
