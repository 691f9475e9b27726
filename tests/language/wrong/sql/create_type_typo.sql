CREATE TABLE payments (
  payment_id STRING,
  amount DECIML(10, 2)
);
SELECT amount FROM payments;
