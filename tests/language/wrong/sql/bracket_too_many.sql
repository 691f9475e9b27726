SELECT (amount + 1)) AS more
FROM payments;
