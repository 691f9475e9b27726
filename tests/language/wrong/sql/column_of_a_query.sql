SELECT amount
FROM (SELECT payment_id FROM payments);
