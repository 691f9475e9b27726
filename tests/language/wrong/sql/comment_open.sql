SELECT payment_id /* the id
FROM payments;
