SELECT CASE WHEN amount > 5 THEN 'large' ELSE 0 END AS size
FROM payments;
