SELECT payments.amount
FROM payments p;
