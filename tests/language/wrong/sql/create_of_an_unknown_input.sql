CREATE TABLE others (a INT);
SELECT a FROM others;
