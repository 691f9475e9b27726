SELECT *
FROM payments
MATCH_RECOGNIZE (
  PARTITION BY card_id
  ORDER BY event_time
  MEASURES COUNT(A.*) AS tries
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A{3,} B)
  WITHIN INTERVAL '10' MINUTE
  DEFINE C AS items > 1,
         A AS amount < 5,
         B AS amount > 1000
) AS m;
