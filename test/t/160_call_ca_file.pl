# A file of certificates that is replaced holds from the next request on, in both directions, for sessions and for the
# worker: neither is a CA trusted any longer that was taken out, nor one refused that was put in.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api    = LiveApi->new;
my $other  = LiveApi->new;
my $node   = ScreenshotTaskTest->start_new('main');
my $dir    = PostgreSQL::Test::Utils::tempdir;
my $call   = call_sql();
my $quiet  = $call =~ s/.*?(?=create_screenshot_task)/PERFORM /sr;
my $failed = "DO \$\$ BEGIN $quiet RAISE 'it was accepted'; EXCEPTION WHEN sqlclient_unable_to_establish_sqlconnection THEN NULL; END \$\$;";

$node->add_server('tencent_live', $api, ca_file => "$dir/ca.pem", request_timeout => '60s');
system("chmod a+rwx $dir") == 0 or die 'chmod failed';
for my $how ('cp', 'mv')
{
	replace($api);
	my $result = $node->try($call . in_session($other, $how) . $failed . in_session($api, $how) . $call);
	is($result->{error} && $result->{error}{message}, undef, "$how: a session notices that a CA is gone, and that it is back");
}

replace($api);
$node->safe_psql('postgres', insert_sql(stream_name => 'before'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'before'"), 'the worker sends');
replace($other);
$node->safe_psql('postgres', insert_sql(stream_name => 'without'));
ok($node->wait_for_log(qr/for server "tencent_live" are paused for 5 s\n.*DETAIL:  could not negotiate TLS with "127.*certificate/), 'and pauses without the CA');
is($api->requests(stream_name => 'without') + 0, 0, 'having sent nothing');
replace($api);
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = 'without'"), 'and goes on with it');

done_testing();

sub replace
{
	my ($from) = @_;

	unlink "$dir/ca.pem";
	system('cp', $from->ca_file, "$dir/ca.pem") == 0 && chmod(0666, "$dir/ca.pem") or die 'cp failed';
	return;
}

# Replace the file in the middle of a session: its contents, or the file.
sub in_session
{
	my ($from, $how) = @_;
	my $file = $from->ca_file;

	return "COPY (SELECT) TO PROGRAM 'cat >/dev/null && "
	  . ($how eq 'cp' ? "cp $file $dir/ca.pem" : "cp $file $dir/new.pem && mv $dir/new.pem $dir/ca.pem") . "';";
}
