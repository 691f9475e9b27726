SELECT payment_id
FROM payments
WHERE amount > 10000
  AND merchant_cuontry <> cardholder_country;
