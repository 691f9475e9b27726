CREATE TABLE payments (
  event_time TIMESTAMP(3),
  WATERMARK FOR evnt_time AS evnt_time - INTERVAL '5' SECOND
);
SELECT event_time FROM payments;
