SELECT payment_id
FROM bank.payments;
