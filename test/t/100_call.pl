# create_screenshot_task() and its siblings, over both versions of HTTP: what was asked for is what
# arrives, and what the API answers is what is returned.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $token   = 'a:temporary/token==';
my @account = ('AKIDTEMPORARY', 'temporarySecretKey', $token);
my %apis    = (
	'2'   => LiveApi->new('--account', join(':', @LiveApi::account), '--account', join(':', @account)),
	'1.1' => LiveApi->new('--http1'));
my $node = ScreenshotTaskTest->start_new('main');

$node->add_server('tencent_live', $apis{'2'}, language => 'zh-CN');
$node->add_server('http1',        $apis{'1.1'});

for my $http (sort keys %apis)
{
	my $api    = $apis{$http};
	my $server = $http eq '2' ? 'tencent_live' : 'http1';

	# Two calls in one session
	my $result = $node->try(call_sql(stream_name => 'first', server => $server)
		  . call_sql(stream_name => 'second', server => $server));
	my @created = $api->ledger;
	is_deeply($result->{error}, undef, "HTTP/$http: no error");
	is_deeply($result->{rows}, [ map { [ $_->{task_id}, $_->{request_id} ] } @created ],
		"HTTP/$http: TaskId and RequestId are the API's");
	is_deeply([ map { $_->{stream_name} } @created ], [qw(first second)], "HTTP/$http: two tasks, in order");

	my @requests = $api->requests;
	is_deeply([ map { $_->{http} } @requests ], [ $http, $http ], "HTTP/$http is what is spoken");
	is($requests[1]{connection}, $requests[0]{connection}, "HTTP/$http: a session keeps its connection");

	# Each parameter
	my %texts = (
		stream_name => "直播 \"流\"\\ \x{1F3A5}\t'",
		domain_name => 'домен.example',
		app_name    => "é\x{7f}/",
		extension   => '{"key": "值"}');
	$result = $node->try(call_sql(%texts,
			server      => $server,
			start_time  => \"date_trunc('second', now()) + interval '1 hour 0.999999 s'",
			end_time    => \"date_trunc('second', now()) + interval '2 hours 0.000001 s'",
			template_id => 9007199254740993,
			stream_type => 1)
		  . "SELECT extract(epoch FROM date_trunc('second', now()))::bigint");
	is_deeply($result->{error}, undef, "HTTP/$http: all parameters are taken");
	my ($task) = $api->ledger(task_id => $result->{rows}[0][0]);
	is_deeply({ map { $_ => $task->{$_} } keys %texts }, \%texts, "HTTP/$http: texts arrive as they are");
	is_deeply([ @$task{qw(template_id stream_type)} ], [ 9007199254740993, 1 ], "HTTP/$http: so do numbers");
	cmp_ok(abs($result->{rows}[1][0] + 3600 - $task->{start_time}), '<=', 60, "HTTP/$http: the start is the one given");
	is($task->{end_time} - $task->{start_time}, 3601, "HTTP/$http: a start is rounded down, an end up");
	($task) = $api->ledger(stream_name => 'first');
	is_deeply([ @$task{qw(start_time extension stream_type)} ], [ undef, undef, 0 ],
		"HTTP/$http: what was not given is left to the API");

	# Stop and delete
	my $task_id = $created[0]{task_id};
	$result = $node->try("SELECT stop_screenshot_task('$task_id', '$server');"
		  . "SELECT delete_screenshot_task(task_id => '$task_id', server => '$server')");
	is_deeply($result->{error}, undef, "HTTP/$http: a task is stopped and deleted");
	is_deeply(
		$result->{rows},
		[ map { [ ($api->ledger(event => $_, task_id => $task_id))[0]{request_id} ] } qw(stop delete) ],
		"HTTP/$http: their RequestIds are the API's");

	is($api->complaints, '', "HTTP/$http: the stand-in has nothing to complain of");
}

# The headers: those that are wanted, and no others
my ($plain)   = $apis{'1.1'}->requests;
my ($chinese) = $apis{'2'}->requests;
my %wanted = (
	'host'               => "127.0.0.1:$apis{'1.1'}->{port}",
	'content-type'       => 'application/json; charset=utf-8',
	'x-tc-action'        => 'CreateScreenshotTask',
	'x-tc-version'       => '2018-08-01',
	'x-tc-region'        => 'ap-guangzhou',
	'x-tc-language'      => 'en-US',
	'x-tc-requestclient' => 'screenshot_task',
	'accept'             => '*/*');
my %headers = %{ $plain->{headers} };
like($headers{authorization}, qr{^TC3-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{4}-\d\d-\d\d/live/tc3_request, SignedHeaders=content-type;host;x-tc-action, },
	'signed: content-type, host and x-tc-action');
like(delete $headers{'x-tc-traceid'}, qr/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'a trace id is a UUID');
delete @headers{qw(authorization x-tc-timestamp content-length)};
is_deeply(\%headers, \%wanted, 'the headers are those of the API');
is($chinese->{headers}{'x-tc-language'}, 'zh-CN', 'the language of the server option is sent');
$node->add_server('elsewhere', $apis{'2'}, region => 'ap-shanghai');
is($node->try(call_sql(server => 'elsewhere', stream_name => 'elsewhere'))->{error}{sqlstate}, '0A000', 'the API knows no other region');
is(($apis{'2'}->requests(stream_name => 'elsewhere'))[0]{headers}{'x-tc-region'}, 'ap-shanghai', 'the region of the server option is sent');

# A token
$node->add_server('temporary', $apis{'2'}, account => \@account);
is_deeply($node->try(call_sql(server => 'temporary', stream_name => 'token'))->{error}, undef, 'a token is accepted');
is(($apis{'2'}->requests(stream_name => 'token'))[0]{headers}{'x-tc-token'}, $token, 'a token is sent');

# A database of another encoding
$node->safe_psql('postgres', "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'");
$node->safe_psql('latin', 'CREATE EXTENSION screenshot_task');
$node->add_server('tencent_live', $apis{'2'}, dbname => 'latin');
my $result = $node->try("SET client_encoding = 'UTF8';" . call_sql(stream_name => 'café'), dbname => 'latin');
is_deeply($result->{error}, undef, 'a database in LATIN1 may call');
is(scalar $apis{'2'}->ledger(stream_name => 'café'), 1, 'its texts arrive in UTF-8');

# Each request of each action has a trace id of its own.
is($node->try("SELECT * FROM describe_screenshot_tasks(now() - interval '20 days', now())")->{error}, undef, 'a list of several requests');
my @requests = map { $_->requests } values %apis;
my %traced = map { ($_->{headers}{'x-tc-traceid'} // 'none' => 1) } @requests;
is(keys %traced, @requests, 'no two requests have the same trace id');
is_deeply([ sort keys %{ { map { ($_->{action} => 1) } @requests } } ],
	[ map { $_ . 'ScreenshotTask' } qw(Create Delete Describe Stop) ], 'of any action');

done_testing();
