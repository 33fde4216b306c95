# Calls with a template that does not exist: a WARNING, or an error, as the server option check_template says.  The list
# of templates is asked for once by a session, and again for each template that is not on it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;                # which has template 20001
my $node = ScreenshotTaskTest->start_new('main');
my $list = 'DescribeLiveSnapshotTemplates';
$node->add_server($_, $api, request_timeout => '3s', check_template => $_) for qw(off warn refuse);
$node->safe_psql('postgres', 'CREATE SERVER unsaid FOREIGN DATA WRAPPER tencent_cloud OPTIONS (endpoint ' . literal($api->endpoint) . ', ca_file ' . literal($api->ca_file) . ", request_timeout '3s');
	CREATE USER MAPPING FOR PUBLIC SERVER unsaid OPTIONS (" . ScreenshotTaskTest::account_options(@LiveApi::account) . ')');

# What calls in one session say, a text each: WARNINGs, errors, or nothing; and how often they asked for the list
sub say
{
	my (@calls) = @_;
	my $before = $api->requests(action => $list);
	my ($stdout, $stderr);

	for (@calls)
	{
		$_ = 'SELECT 1 FROM (' . (s/;\n\z//r) . ') AS c;' if /^SELECT \* FROM create/;
	}
	$node->psql('postgres', join("\n\\warn next\n", @calls), stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	my @said = map { s/^psql:\S+ //mgr } split /^next\n/m, "$stderr\n", -1;
	chomp @said;
	return ($api->requests(action => $list) - $before, @said);
}

sub warns_of { return "WARNING:  template $_[0] does not exist\nDETAIL:  The account of server \"$_[1]\" has no such template. A task with it takes no screenshots.\nHINT:  describe_screenshot_templates() lists the templates of the account." }

# Each way
for my $server ('warn', 'unsaid')
{
	my ($asked, @said) = say(map { call_sql(server => $server, template_id => $_, stream_name => "$server $_") } 20001, 20001, 0, 404, 404, 20001);

	is_deeply(\@said, [ '', '', '', warns_of(404, $server), warns_of(404, $server), '' ], "$server: a WARNING of a template that does not exist");
	is($asked, 2, "$server: the list is asked for once, and once more for that one");
	is_deeply([ map { scalar $api->ledger(stream_name => "$server $_") } 20001, 404, 0 ], [ 3, 2, 1 ], "$server: all tasks are made");
}
my ($asked, @said) = say(map { call_sql(server => 'refuse', template_id => $_, stream_name => "refuse $_") } 20001, 405, 0);
is_deeply(\@said, [ '', warns_of(405, 'refuse') =~ s/^WARNING/ERROR/r, '' ], 'refuse: an error');
is(scalar $api->requests(stream_name => 'refuse 405'), 0, 'refuse: nothing is sent');
is($node->try(call_sql(server => 'refuse', template_id => 405))->{error}{sqlstate}, '22023', 'refuse: its SQLSTATE');
($asked, @said) = say(map { call_sql(server => 'off', template_id => $_) } 20001, 404);
is_deeply([ $asked, @said ], [ 0, '', '' ], 'off: nothing is asked, and nothing said');
($asked) = say(call_sql(server => 'warn', template_id => 0));
is($asked, 0, 'nor for no template at all');
($asked) = say(call_sql(server => 'warn') =~ s/create_screenshot_task/preview_screenshot_task/r);
is($asked, 0, 'nor for a preview');

# One that was made a moment ago is found, and one that was removed is missed in time.
($asked, @said) = say(call_sql(server => 'warn'), q{SELECT template_id AS id FROM create_screenshot_template('t', 1, 'b', 'r', server => 'warn') \gset},
	call_sql(server => 'warn', template_id => \':id', stream_name => 'new'));
is_deeply(\@said, [ '', '', '' ], 'a template that was just made is known');
is(scalar $api->ledger(stream_name => 'new'), 1, 'and used');

# The list cannot be had: said once by a session, and the call is made.
for my $fault ('error=UnauthorizedOperation.CamNoAuth', 'error=InvalidAction', 'close', 'hang', 'not-json', 'odd-template=-1', 'error=InternalError')
{
	my $stream = "without a list: $fault";
	my $sent = $api->requests(action => $list);

	$api->order(fault => $fault, action => $list, times => 0);
	($asked, @said) = say(map { call_sql(server => 'refuse', template_id => $_, stream_name => $stream) } 404, 405, 20001);
	like($said[0], qr/^WARNING:  could not check whether template 404 exists\nDETAIL:  Server "refuse" did not list the templates of the account: .*\.  This is reported once per session\.$/, "$fault: it is said");
	is_deeply([ @said[ 1, 2 ] ], [ '', '' ], "$fault: once");
	is(scalar $api->ledger(stream_name => $stream), 3, "$fault: and the tasks are made");
	is($asked, 1, "$fault: the list is asked for once");
	$api->clear_orders;
}

# What is asked for beside can be ended as the call can, and nothing was sent.
$api->order(fault => 'hang', action => $list);
my $error = $node->try("SET statement_timeout = '1s';" . call_sql(server => 'warn', stream_name => 'cancelled'))->{error};
is($error->{sqlstate}, '57014', 'a call is cancelled while its template is checked');
like($error->{context}, qr/^CreateScreenshotTask on server "warn": nothing had been sent$/m, 'and says that nothing was sent');
is(scalar $api->requests(stream_name => 'cancelled'), 0, 'as is so');
my $calls = $node->safe_psql('postgres', q{SELECT calls FROM screenshot_task_stat WHERE server = 'refuse'});
is($node->try(call_sql(server => 'refuse'))->{error}, undef, 'a call');
is($node->safe_psql('postgres', q{SELECT calls FROM screenshot_task_stat WHERE server = 'refuse'}), $calls + 1, 'is counted, and the list that it asked for is not');

# The limit is kept.
is(scalar $api->requests(outcome => 'RequestLimitExceeded'), 0, 'no request is beyond the limit');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
