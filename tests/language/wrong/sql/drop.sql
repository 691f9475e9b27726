SELECT payment_id FROM payments;
DROP TABLE payments;
