SELECT payment_id
FROM payments
WHERE extract(epoch_ms FROM event_time) > 0;
