SELECT CASE WHEN amount > 100 THEN 'large'
            WHEN itms > 3 THEN 'many' END AS size
FROM payments;
