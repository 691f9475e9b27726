DELETE FROM payments WHERE amount < 0;
