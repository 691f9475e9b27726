SELECT payment_id
FROM payments
WHERE amount;
