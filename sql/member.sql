--
-- What belongs to the extension: it has a comment, and is granted to whom it
-- should be
--
\pset format unaligned
\pset tuples_only on

-- Types of arrays and rows are members in some releases of PostgreSQL only.
CREATE VIEW member AS
	SELECT classid, objid FROM pg_depend
	WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'screenshot_task')
	AND NOT (classid = 'pg_type'::regclass AND
			 objid IN (SELECT oid FROM pg_type WHERE typrelid <> 0 OR typelem <> 0));
CREATE VIEW relation AS
	SELECT oid FROM pg_class JOIN member ON oid = objid
	WHERE classid = 'pg_class'::regclass AND relkind IN ('r', 'v');

-- It has a comment, all of it, down to the columns.
SELECT count(*) > 10 FROM member;
SELECT 'no comment: ' || pg_describe_object(class, object, 0)
FROM (SELECT classid, objid FROM member
	  UNION ALL
	  SELECT 'pg_extension'::regclass, oid FROM pg_extension WHERE extname = 'screenshot_task'
	  UNION ALL
	  SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid IN (TABLE relation) AND NOT indisprimary
	  UNION ALL
	  SELECT 'pg_trigger'::regclass, oid FROM pg_trigger WHERE tgrelid IN (TABLE relation) AND NOT tgisinternal
	  UNION ALL
	  SELECT 'pg_policy'::regclass, oid FROM pg_policy WHERE polrelid IN (TABLE relation)) AS part (class, object)
WHERE obj_description(object, class::regclass::name) IS NULL;
SELECT 'no comment: ' || attrelid::regclass || '.' || attname
FROM pg_attribute
WHERE attrelid IN (TABLE relation) AND attnum > 0 AND NOT attisdropped
AND col_description(attrelid, attnum) IS NULL;

-- What everybody may do with it.  To send takes a server and credentials too.
SELECT privilege_type || ' on ' || what
FROM (SELECT 'pg_proc'::regclass, oid, oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
	  UNION ALL
	  SELECT 'pg_class'::regclass, oid, oid::regclass::text,
			 coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) FROM pg_class
	  UNION ALL
	  SELECT 'pg_type'::regclass, oid, oid::regtype::text, coalesce(typacl, acldefault('T', typowner)) FROM pg_type
	  UNION ALL
	  SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwname, coalesce(fdwacl, acldefault('F', fdwowner)) FROM pg_foreign_data_wrapper)
	  AS o (class, object, what, acl)
	JOIN member ON (classid, objid) = (class, object), aclexplode(acl)
WHERE grantee = 0
ORDER BY privilege_type || what COLLATE "C";

DROP VIEW relation, member;
