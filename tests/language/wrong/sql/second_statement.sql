SELECT payment_id FROM payments;

-- the second
SELECT paymnet_id FROM payments;
