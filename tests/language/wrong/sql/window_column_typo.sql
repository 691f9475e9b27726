SELECT card_id, window_strat, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(event_time), INTERVAL '5' MINUTE))
GROUP BY card_id, window_start, window_end;
