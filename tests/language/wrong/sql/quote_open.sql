SELECT payment_id
FROM payments
WHERE merchant_country = 'DE;
