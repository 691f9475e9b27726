SELECT paymnet_id FROM payments;
SELECT card_id FROM chnages;
