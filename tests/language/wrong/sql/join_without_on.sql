SELECT p.payment_id
FROM payments p
JOIN changes c;
