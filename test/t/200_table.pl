# What a transaction inserts becomes screenshot tasks once it commits, whichever way it was inserted; what
# it rolls back leaves nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');

$node->add_server('tencent_live', $api);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE event (id int PRIMARY KEY, stream text, starts_at timestamptz, ends_at timestamptz);
	CREATE TRIGGER screenshots AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
		'stream_name=stream', 'domain_name:=5000.live.push.com', 'app_name:=live', 'start_time=starts_at',
		'end_time=ends_at', 'template_id:=20001', 'reference=id');
	CREATE PROCEDURE book(name text) LANGUAGE plpgsql AS $$ BEGIN
		PERFORM enqueue(name || ' 1'); COMMIT;
		PERFORM enqueue(name || ' 2'); ROLLBACK;
		PERFORM enqueue(name || ' 3'); COMMIT;
	END $$;
	CREATE FUNCTION enqueue(name text) RETURNS bigint LANGUAGE sql AS $$ SELECT enqueue_screenshot_task(
		stream_name => name, domain_name => 'd', app_name => 'a', end_time => now() + interval '1 hour',
		template_id => 1) $$;
});

# A transaction, with all that can be in it
my $insert = sub { insert_sql(stream_name => $_[0]) };
sent_are('a transaction', "BEGIN;" . $insert->('one') . $insert->('two') . "COMMIT;", 'one', 'two');
sent_are('a rolled-back transaction', "BEGIN;" . $insert->('never') . "ROLLBACK;");
sent_are('a transaction that fails', "BEGIN;" . $insert->('never') . "SELECT 1 / 0; COMMIT;");
sent_are('savepoints',
	"BEGIN; SAVEPOINT a;" . $insert->('never') . "ROLLBACK TO a; SAVEPOINT b;" . $insert->('released')
	  . "RELEASE b; COMMIT;", 'released');
sent_are('an outer savepoint rolled back',
	"BEGIN; SAVEPOINT a; SAVEPOINT b;" . $insert->('never') . "RELEASE b; ROLLBACK TO a; COMMIT;");
sent_are('before a savepoint that is rolled back',
	"BEGIN;" . $insert->('kept') . "SAVEPOINT a;" . $insert->('never') . "ROLLBACK TO a; COMMIT;", 'kept');
sent_are('exceptions caught in PL/pgSQL', qq{
	DO \$\$ BEGIN
		BEGIN @{[ $insert->('never') ]} PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
		BEGIN @{[ $insert->('caught') ]} END;
	END \$\$}, 'caught');
sent_are('COMMIT and ROLLBACK in a procedure', "CALL book('procedure')", 'procedure 1', 'procedure 3');
sent_are('INSERT ... SELECT', insert_sql(rows => 5, stream_name => \"'many ' || i"), map { "many $_" } 1 .. 5);
sent_are('COPY',
	"COPY screenshot_task_request (stream_name, domain_name, app_name, end_time, template_id) FROM STDIN;\n"
	  . join('', map { "copied $_\td\ta\ttomorrow\t1\n" } 1 .. 5) . "\\.\n", map { "copied $_" } 1 .. 5);
sent_are('the trigger',
	"INSERT INTO event VALUES (1, 'booked 1', now() + interval '1 h', now() + interval '2 h'), (2, 'booked 2', NULL, now() + interval '2 h')",
	'booked 1', 'booked 2');
sent_are('the trigger, rolled back',
	"BEGIN; INSERT INTO event VALUES (3, 'never', NULL, now() + interval '2 h'); ROLLBACK");
sent_are('enqueue_screenshot_task()', "SELECT enqueue('enqueued')", 'enqueued');
sent_are('a session that goes on', "BEGIN;" . $insert->('first') . "COMMIT; BEGIN;" . $insert->('never') . "ROLLBACK;"
	  . "BEGIN;" . $insert->('second') . "COMMIT", 'first', 'second');

# The rows and the ledger agree, in every column
my @requests = $node->rows(q{SELECT task_id, request_id, status, attempts, error_code, error_message, stream_name,
	domain_name, app_name, template_id, stream_type, extension, floor(extract(epoch FROM start_time)) AS start_time,
	ceil(extract(epoch FROM end_time)) AS end_time, sent_at <= finished_at AS in_order
	FROM screenshot_task_request ORDER BY task_id});
my @tasks = map { { %$_, status => 'created', attempts => 1, error_code => undef, error_message => undef, in_order => JSON::PP::true } }
  sort { $a->{task_id} cmp $b->{task_id} } $api->ledger;
delete @$_{qw(event time)} for @tasks;
is_deeply(\@requests, \@tasks, 'the table is the ledger');
is($node->safe_psql('postgres', 'SELECT string_agg(reference, $$,$$ ORDER BY id) FROM screenshot_task_request WHERE reference IS NOT NULL'),
	'1,2', 'the trigger passed its reference on');
my %sent = map { ($_->{task_id} => $_->{headers}{'x-tc-traceid'}) } $api->requests;
is_deeply({ map { ($_->{task_id} => $_->{trace_id}) } $node->table }, \%sent, 'each row has the trace id that it was sent with');
is(keys %{ { reverse %sent } }, keys %sent, 'each another');

# A reference that exists with other parameters is said, with what differs; an end or a start is one of whole seconds.
my $enqueue = sub {
	my (%other) = (stream_name => q{'known'}, template_id => 1, start_time => q{'2999-07-10 12:00:00.1Z'}, end_time => q{'2999-07-10 13:00Z'}, @_);
	my $arguments = join ', ', map { "$_ => $other{$_}" } sort keys %other;
	my $notice;

	$node->psql('postgres', "SELECT enqueue_screenshot_task(domain_name => 'd', app_name => 'a', reference => 'known', $arguments)", stderr => \$notice);
	return $notice =~ s/request \d+/request N/r;
};
is($enqueue->(), '', 'a new one says nothing');
is($enqueue->(start_time => q{'2999-07-10 12:00:00.9Z'}, end_time => q{'2999-07-10 12:59:59.1Z'}), '', 'nor does the same to the second');
for my $case ([ 'end_time' => end_time => q{'2999-07-10 13:00:00.1Z'} ], [ 'start_time' => start_time => q{'2999-07-10 12:00:01Z'} ],
	[ 'template_id, extension' => template_id => 2, extension => q{''} ],
	[ 'stream_name, stream_type' => stream_name => q{'Known'}, stream_type => 1 ])
{
	my ($differing, @other) = @$case;

	like($enqueue->(@other), qr/^psql:<stdin>:1: NOTICE:  screenshot task request N has reference "known" and other parameters\nDETAIL:  Its id is returned. These differ: $differing\.\nHINT:  With "replace" it is withdrawn, and another takes its place\.$/,
		"another $differing is said");
}
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# Run SQL, and see which streams have new tasks once all that is in the table was sent.
sub sent_are
{
	my ($what, $sql, @streams) = @_;
	my $before = $api->ledger;

	$node->try($sql);
	$node->wait_for_table;
	my @ledger = $api->ledger;
	is_deeply([ sort map { $_->{stream_name} } @ledger[ $before .. $#ledger ] ], [ sort @streams ], $what);
	return;
}
