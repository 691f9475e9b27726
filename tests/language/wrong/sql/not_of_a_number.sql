SELECT payment_id
FROM payments
WHERE NOT amount;
