SELECT card_id
FROM payments p JOIN changes c ON p.card_id = c.card_id;
