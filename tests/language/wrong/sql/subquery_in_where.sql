SELECT payment_id
FROM payments
WHERE card_id IN (SELECT card_id FROM changes);
