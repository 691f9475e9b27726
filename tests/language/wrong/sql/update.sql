UPDATE payments SET amount = 0;
