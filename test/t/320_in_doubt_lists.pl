# What DescribeScreenshotTask lists decides whether a request in doubt is sent again: tasks that differ by little are
# told apart, names beyond ASCII are found in databases of any encoding, and a list that lies does no harm.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '300ms');
my %encodings = (UTF8 => 'postgres', LATIN1 => 'latin', EUC_CN => 'china', SQL_ASCII => 'bytes');

for my $encoding (sort keys %encodings)
{
	my $dbname = $encodings{$encoding};

	if ($dbname ne 'postgres')
	{
		$node->safe_psql('postgres', "CREATE DATABASE $dbname ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
		$node->safe_psql($dbname, 'CREATE EXTENSION screenshot_task');
	}
	$node->add_server('tencent_live', $api, request_timeout => '1s', dbname => $dbname);
}
# For calls, of which none is to end by this time-out
$node->add_server('patient', $api, request_timeout => '2min');

# A request without a start, and ones that are equal but for having one, from before it was sent: all are made, and
# each finds its own, whichever is asked about first and whichever is listed first.
my %alike = (end_time => \('to_timestamp(' . (time + 43200) . ')'));
for my $first ('without', 'with')
{
	my $stream = "$first a start first";
	my @sql    = (insert_sql(stream_name => $stream, %alike),
		insert_sql(stream_name => $stream, %alike, start_time => \"date_trunc('minute', now()) - i * interval '1 min'", rows => 2));

	$api->order(fault => 'error=InternalError,create', stream => $stream, action => 'CreateScreenshotTask', times => 3);
	$node->safe_psql('postgres', $_) for $first eq 'with' ? reverse @sql : @sql;
	ok($node->wait_for_table("status = 'created'"), "$stream: all are found");
	my @rows  = $node->table("stream_name = '$stream'");
	my %start = map { $_->{task_id} => $_->{start_time} } $api->ledger(stream_name => $stream);
	is(scalar keys %start, 3, "$stream: none was made twice");
	for my $row (@rows)
	{
		my $given = $row->{start_time} && $node->safe_psql('postgres', "SELECT extract(epoch FROM start_time)::bigint FROM screenshot_task_request WHERE id = $row->{id}");

		ok(exists $start{ $row->{task_id} }, "$stream: its task is in the ledger");
		is($start{ $row->{task_id} }, $given, "$stream: and has its start") if $given;
	}
	is($api->requests(stream_name => $stream, action => 'CreateScreenshotTask'), 3, "$stream: nothing was sent again");
}

# Names, in hexadecimal digits of UTF-8: e with acute accent; two han characters; a face, in two UTF-16 units; and what
# looks like an escape of JSON, but is none.  The API lists them as they are, or escaped.
my %names = (
	LATIN1    => [ 'c3a9', '615c753132333462', '615c75' ],
	EUC_CN    => [ 'e4b8ade69687', '615c753132333462' ],
	SQL_ASCII => [ 'f09f9880', 'c3a9', '615c753132333462' ],
	UTF8      => [ 'f09f9880', 'c3a9', '615c753132333462', '615c75' ]);
my @names;
for my $encoding (sort keys %names)
{
	for my $hex (@{ $names{$encoding} })
	{
		for my $faults ('', ',escaped')
		{
			my $prefix = $encoding . ($faults ? ' escaped ' : ' ');
			my $name   = $prefix . utf8(pack 'H*', $hex);

			push @names, [ $encodings{$encoding}, $name, $prefix . unpack_shown($hex) ];
			$api->order(fault => 'error=InternalError,create', stream => $name, action => 'CreateScreenshotTask');
			$api->order(fault => 'escaped', stream => $name, action => 'DescribeScreenshotTask', times => 0) if $faults;
			$node->safe_psql($encodings{$encoding}, insert_sql(stream_name => \("'$prefix' || " . ($encoding eq 'SQL_ASCII' ?
				"convert_from('\\x$hex', 'SQL_ASCII')" : "convert_from('\\x$hex', 'UTF8')"))));
		}
	}
}
for my $dbname (sort values %encodings)
{
	ok(unpaused(sub { $node->safe_psql($dbname, "SELECT bool_and(status = 'created') FROM screenshot_task_request") eq 't' }), "$dbname: all are found");
}
for (@names)
{
	my ($dbname, $name, $shown) = @$_;

	is($api->ledger(stream_name => $name), 1, "$shown: one task");
	is($api->requests(stream_name => $name, action => 'CreateScreenshotTask'), 1, "$shown: sent once");
}

# A list that is null is an empty one, in an answer that has a RequestId.
$api->order(fault => 'null-list', stream => 'null list', action => 'DescribeScreenshotTask', times => 0);
$api->order(fault => 'error=InternalError', stream => 'null list', action => 'CreateScreenshotTask');
$node->safe_psql('postgres', insert_sql(stream_name => 'null list'));
ok($node->wait_for_table("status = 'created' AND attempts = 2", where => "stream_name = 'null list'"), 'a null list: nothing is found, and the request sent again');
is_deeply($node->try("SELECT * FROM describe_screenshot_tasks(now(), now() + interval '1 d', stream_name => 'null list')"), { rows => [], error => undef }, 'a null list: a call lists nothing');

# Lists that lie: the request stays in doubt, and nothing is sent again
my %lies = (
	'endless-list'           => qr/^in doubt; task lookup refused: the task list did not terminate\. Check whether /,
	'nameless-null-list'     => qr/^in doubt; task lookup failed: the answer has neither a TaskList nor an Error$/,
	'odd-list=1e131071'      => undef,
	'odd-list=-1'            => undef,
	'odd-list=1.5'           => undef,
	'odd-list=9224318016000' => undef,
	'odd-list="1"'           => undef,
	'odd-list=99999999999999999999' => undef);
my @lies = sort keys %lies;
for my $lie (@lies)
{
	$api->order(fault => $lie, stream => $lie, action => 'DescribeScreenshotTask', times => 0);
	$api->order(fault => 'error=InternalError', stream => $lie, action => 'CreateScreenshotTask');
	$node->safe_psql('postgres', insert_sql(stream_name => $lie));
}
for my $lie (@lies)
{
	my $said = $lies{$lie} // qr/^in doubt; task lookup failed: the answer has an incomplete task$/;

	ok(unpaused(sub { ($node->table("stream_name = '$lie'"))[0]{error_message} =~ $said }), "$lie: the row says what is wrong");
	is(($node->table("stream_name = '$lie'"))[0]{status}, 'in_doubt', "$lie: in doubt");
	is($api->requests(stream_name => $lie, action => 'CreateScreenshotTask'), 1, "$lie: sent once");

	my $error = $node->try("SELECT * FROM describe_screenshot_tasks(now(), now() + interval '1 d', stream_name => '$lie')")->{error};
	is_deeply([ @$error{qw(sqlstate message)} ],
		$lie eq 'endless-list' ? [ '08007', 'task list of server "tencent_live" did not terminate' ] :
		[ '08007', 'it is unknown whether server "tencent_live" carried out DescribeScreenshotTask' ], "$lie: describe_screenshot_tasks()");
}
$api->clear_orders;
$node->safe_psql('postgres', "SELECT retry_screenshot_task_request(id) FROM screenshot_task_request WHERE status = 'in_doubt' AND next_attempt_at IS NULL");
ok($node->wait_for_table("status = 'created' AND attempts = 2", where => "stream_name ~ '-list'"), 'with honest lists all are sent again');
is($api->ledger(stream_name => $_), 1, "$_: one task in the end") for @lies;

# Pages of 20 tasks with longer and longer names are read to their end, of which libcurl 7.88 takes no notice over
# HTTP/2 where it comes with more than fits into the buffer for an answer.
for my $length (1, 50, 150, 400, 1000)
{
	my $stream = "names of $length";
	my %names  = (stream_name => $stream, domain_name => 'd' x $length, app_name => 'a' x $length);

	$node->safe_psql('postgres', insert_sql(%names, rows => 19, start_time => \"now() + i * interval '1 min'"));
	ok($node->wait_for_table("status = 'created'"), "$stream: nineteen are created");
	$api->order(fault => 'error=InternalError,create', stream => $stream, action => 'CreateScreenshotTask');
	$node->safe_psql('postgres', insert_sql(%names));
	ok($node->wait_for_table("status = 'created'"), "$stream: the twentieth is found");
	is($api->ledger(stream_name => $stream), 20, "$stream: twenty tasks");
	is($node->safe_psql('postgres', "SELECT count(*) FROM describe_screenshot_tasks(now() - interval '1 h', now() + interval '2 h', stream_name => '$stream', server => 'patient')"),
		20, "$stream: describe_screenshot_tasks() lists them");
}

# A connection on which nothing is answered any more is not used again.
$node->safe_psql('postgres', insert_sql(stream_name => 'fault:deaf,create'));
ok($node->wait_for_table("status = 'created'"), 'deaf connection: the request is found');
$node->safe_psql('postgres', insert_sql(stream_name => 'after'));
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name IN ('after', 'fault:deaf,create')"), 'deaf connection: what follows is created');
my $result = $node->try("SET statement_timeout = '1s'; " . call_sql(stream_name => 'fault:deaf#call', server => 'patient')
	  . "SET statement_timeout = 0; " . call_sql(stream_name => 'after the call', server => 'patient'));
is($result->{error}{sqlstate}, '57014', 'deaf connection: a call is cancelled');
is($api->ledger(stream_name => 'after the call'), 1, 'deaf connection: the next call of the session succeeds');

unlike($node->log_text, qr/terminated by signal|PANIC|TRAP/, 'no process crashed');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# Wait until something is so.  Answers that leave it open whether a task was made, one after the other, and lists that are
# none, pause the server: reloads end that.
sub unpaused
{
	my ($condition) = @_;

	return wait_until(sub { return 1 if $condition->(); $node->reload; sleep 1; return 0 });
}

sub utf8
{
	my ($bytes) = @_;

	utf8::decode($bytes);
	return $bytes;
}

sub unpack_shown
{
	my ($hex) = @_;

	return pack('H*', $hex) =~ /^[ -~]+$/ ? pack('H*', $hex) : "0x$hex";
}
