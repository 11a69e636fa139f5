-- What a database does to its heap: rows, indices, sorting, grouping, strings. The number of rows is
-- the parameter :count, set by whoever runs this.
PRAGMA journal_mode = OFF;
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, article TEXT, amount INTEGER, note TEXT);
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
INSERT INTO orders
SELECT n, 'customer ' || (n * 7919 % 2003), 'article ' || (n * 104729 % 5003), n % 17,
       substr('a note that is longer for some than for others, and empty for a few', 1, n % 67)
FROM number;
CREATE INDEX by_customer ON orders (customer, article);
CREATE INDEX by_note ON orders (note);
SELECT customer, count(*), sum(amount), group_concat(article, '; ') FROM orders
GROUP BY customer ORDER BY 3 DESC, 1 LIMIT 200;
UPDATE orders SET note = note || upper(article) WHERE id % 3 = 0;
DELETE FROM orders WHERE amount = 5;
SELECT a.customer, count(DISTINCT b.article), max(length(b.note)), replace(max(b.note), 'note', 'word')
FROM orders a JOIN orders b ON a.customer = b.customer AND a.id % 97 = 0
GROUP BY a.customer ORDER BY 2 DESC, 1 LIMIT 500;
SELECT json_group_array(json_object('id', id, 'note', note)) FROM orders WHERE id % 11 = 0;
