SELECT q.amount
FROM payments p;
