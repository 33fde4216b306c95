# What the API refuses, by the table: after each error code the request is in the state of its class, with
# the code and the RequestId; and once the API takes it, what was not refused for good becomes one task.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

# Who is to blame for each code, and with that, what follows
my %codes = (
	limit => [
		qw(RequestLimitExceeded RequestLimitExceeded.UinLimitExceeded RequestLimitExceeded.IPLimitExceeded
		  RequestLimitExceeded.GlobalRegionUinLimitExceeded LimitExceeded.RateLimitExceeded)
	],
	quota => [
		qw(LimitExceeded LimitExceeded.MaximumRunningTask LimitExceeded.Other ResourceInsufficient ResourceInsufficient.Any
		  ResourcesSoldOut ResourceUnavailable.Any ResourceInUse)
	],
	daily => [qw(LimitExceeded.MaximumTask)],
	role  => [
		qw(AuthFailure.SignatureFailure AuthFailure.SignatureExpire AuthFailure.SecretIdNotFound AuthFailure.TokenFailure
		  ResourceNotFound.ForbidService
		  ResourceNotFound.FreezeService ResourceNotFound.StopService ResourceNotFound.UserDisableService
		  ResourceNotFound.InvalidUser ResourceNotFound.UserNotExist UnsupportedOperation.NotLVBCodeMode
		  FailedOperation.JiFeiNoEnoughFund FailedOperation.NoRealNameAuth FailedOperation.SdkNoPackage
		  FailedOperation.AuthError OperationDenied OperationDenied.Any IpInBlacklist IpNotInWhitelist)
	],
	domain => [qw(UnauthorizedOperation UnauthorizedOperation.CamNoAuth AuthFailure.UnauthorizedOperation)],
	server => [
		qw(InvalidAction NoSuchProduct NoSuchVersion ActionOffline UnsupportedRegion
		  UnsupportedProtocol MissingParameter UnknownParameter)
	],
	request => [
		qw(InvalidParameter InvalidParameter.TooLong InvalidParameterValue
		  UnsupportedOperation UnsupportedOperation.Other InvalidRequest RequestSizeLimitExceeded ResourceNotFound ResourceNotFound.Other
		  DryRunOperation)
	],
	unknown => [
		qw(InternalError InternalError.GetConfigError InternalError.NetworkError FailedOperation FailedOperation.Other
		  ServiceUnavailable ResponseSizeLimitExceeded NobodyKnows.ThisCode)
	]);
my %state_after = (
	limit   => "status = 'pending' AND attempts = 0 AND next_attempt_at IS NULL",
	quota   => "status = 'pending' AND attempts > 0 AND next_attempt_at > sent_at",
	daily   => "status = 'pending' AND attempts = 1 AND next_attempt_at - sent_at BETWEEN interval '15 min' AND interval '31 min'",
	role    => "status = 'pending' AND attempts = 0 AND next_attempt_at IS NULL",
	domain  => "status = 'pending' AND attempts = 0 AND next_attempt_at IS NULL",
	server  => "status = 'pending' AND attempts = 0 AND next_attempt_at IS NULL",
	request => "status = 'failed' AND attempts = 1 AND finished_at >= sent_at",
	unknown => "status = 'in_doubt' AND attempts = 1 AND finished_at IS NULL");
my $doubt = '; outcome unknown';

my @throttled = ('AKIDTHROTTLED', 'anotherSecretKey');
my $api       = LiveApi->new(map { ('--account', join ':', @$_) } \@LiveApi::account, \@throttled);
my $node      = ScreenshotTaskTest->start_new('main');
my @classes   = sort keys %codes;
my %server    = ();

# A server for each code, so that no fault is in the way of another
for my $class (@classes)
{
	for my $code (@{ $codes{$class} })
	{
		$server{$code} = 's' . (1 + keys %server);
		$node->add_server($server{$code}, $api, account => $class eq 'limit' ? \@throttled : \@LiveApi::account);
		$api->order(fault => "error=$code", stream => $code, times => 0);
	}
}
$node->safe_psql('postgres', join '', map { insert_sql(stream_name => $_, server => $server{$_}) } sort keys %server);

for my $class (@classes)
{
	check_fault($class, $_) for @{ $codes{$class} };
}

# An answer that is in doubt may hide a task.
my $hidden = 'fault:error=InternalError,create';
$node->safe_psql('postgres', insert_sql(stream_name => $hidden, server => $server{InternalError}));
ok($node->wait_for_table("status = 'in_doubt'", where => "stream_name = '$hidden'"), 'a task that was made is in doubt');

# The end of all faults, and with a reload of all pauses
$api->clear_orders;
$node->reload;
$node->safe_psql('postgres', "SELECT retry_screenshot_task_request(id) FROM screenshot_task_request WHERE error_code = 'LimitExceeded.MaximumTask'");
ok($node->wait_for_table, 'all that was pending is sent');
for my $class (@classes)
{
	check_end($class, $_) for @{ $codes{$class} };
}
is($api->ledger(stream_name => $hidden),   1, 'the task that is in doubt was made once');
is($api->requests(stream_name => $hidden), 1, 'and its request sent once');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub check_fault
{
	my ($class, $code) = @_;
	my $message = 'ordered by a test' . ($class eq 'unknown' ? $doubt : '');

	ok($node->poll_query_until('postgres',
			"SELECT $state_after{$class} AND error_code = '$code' AND error_message = '$message' AND task_id IS NULL"
			  . " FROM screenshot_task_request WHERE stream_name = '$code'"), "$code: state");
	my ($row) = $node->table("stream_name = '$code'");
	is(scalar(grep { $_->{request_id} eq $row->{request_id} } $api->requests(stream_name => $code)), 1, "$code: RequestId");
	is($api->ledger(stream_name => $code), 0, "$code: no task");

	# The clock is the whole machine's, and the reason says so.
	if ($code =~ /SignatureExpire/)
	{
		like($node->log_text, qr/screenshot tasks for server "$server{$code}" are paused for 5 s\n.*DETAIL:  the clocks of the API and of this machine differ \($code: ordered by a test\)\n/, "$code: log");
		return;
	}
	my %logged = (
		role    => qr/screenshot tasks of role postgres for server "$server{$code}" are paused for 5 s\n.*DETAIL:  $code: ordered by a test\n/,
		domain  => qr/screenshot tasks of domain "5000\.live\.push\.com" and role postgres for server "$server{$code}" are paused for 5 s\n.*DETAIL:  $code: ordered by a test\n/,
		server  => qr/screenshot tasks for server "$server{$code}" are paused for 5 s\n.*DETAIL:  $code: ordered by a test\n/,
		request => qr/screenshot task request $row->{id} failed\n.*DETAIL:  $code: ordered by a test, RequestId $row->{request_id}\n/,
		unknown => qr/screenshot task request $row->{id} is in doubt\n.*DETAIL:  $code: ordered by a test$doubt, RequestId $row->{request_id}\n/);
	like($node->log_text, $logged{$class}, "$code: log") if $logged{$class};
	return;
}

sub check_end
{
	my ($class, $code) = @_;
	my ($row) = $node->table("stream_name = '$code'");
	my @tasks = $api->ledger(stream_name => $code);

	if ($class eq 'request' || $class eq 'unknown')
	{
		is_deeply([ $row->{status}, $row->{attempts}, scalar @tasks, scalar $api->requests(stream_name => $code, outcome => $code) ],
			[ $class eq 'request' ? 'failed' : 'in_doubt', 1, 0, 1 ], "$code: sent once, and that is that");
		return;
	}
	is_deeply(
		[ @$row{qw(status task_id request_id error_code error_message)} ],
		[ 'created', @{ $tasks[0] }{qw(task_id request_id)}, undef, undef ],
		"$code: created in the end");
	is(@tasks, 1, "$code: once");
	is($row->{attempts}, $class =~ /^(?:quota|daily)$/ ? 1 + $api->requests(stream_name => $code, outcome => $code) : 1,
		$class =~ /^(?:quota|daily)$/ ? "$code: each attempt counts" : "$code: only the last attempt counts");
	return;
}
