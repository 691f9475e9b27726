SELCT payment_id FROM payments;
