SELECT payment_id
FROM paymnets;
