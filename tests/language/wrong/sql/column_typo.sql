SELECT payment_id,
       amuont
FROM payments;
