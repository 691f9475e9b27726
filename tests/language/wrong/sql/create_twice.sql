CREATE TABLE payments (
  amount DOUBLE,
  amount DOUBLE
);
SELECT amount FROM payments;
