# Whatever is killed, and whenever: each committed request becomes one task, and no other does.
#
# A few dozen rounds of test/crash, with another seed each time.  test/crash --rounds 1000 runs more.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(rmtree);
use PostgreSQL::Test::Utils ();
use Test::More;

use constant PROGRAM => dirname(dirname(abs_path(__FILE__))) . '/crash';

# Run it in a folder that stays if it fails.  Returns its exit status, and what it said.
sub crash
{
	my ($name, @options) = @_;
	my $dir = "$PostgreSQL::Test::Utils::tmp_check/crash-$name";
	my $log = "$PostgreSQL::Test::Utils::log_path/crash-$name.log";
	my $status =
	  system(qq{'${\PROGRAM}' --build --dir '$dir' } . join(' ', @options) . qq{ >'$log' 2>&1 </dev/null});
	my $text = PostgreSQL::Test::Utils::slurp_file($log);

	rmtree($dir) if $status == 0 || $name eq 'mutant';
	note join "\n", grep { !/^    / } split /\n/, $text;
	return ($status, $text);
}

my ($status, $text) = crash('correct', '--rounds 24', '--crash-points');
my ($requests, $tasks) = $text =~ /(\d+) requests committed, .* (\d+) tasks$/m;

is($status, 0, 'no request is lost, doubled or astray')
  or diag join "\n", grep { !/^(round|counted|    )/ } split /\n/, $text;
cmp_ok($requests // 0, '>', 100, 'there were requests');
cmp_ok($tasks // 0, '>=', $requests // 0, 'and tasks');
like($text, qr/^in doubt: [1-9]\d* for want of an answer, \d+ for want of a worker; \d+ adopted, \d+ sent again/m,
	'some were in doubt');

# The count can fail.  A task too many can be taken for that of a request that differs only in having no start, which then
# leaves another without: no such requests here, so that nothing but the doubled is wrong.
($status, $text) =
  crash('mutant', '--mutant sent-again-unasked', '--stop', '--every 2', '--rounds 60', '--no-mixed-starts');
isnt($status, 0, 'where what is in doubt is sent again unasked, the count fails');
like($text, qr/^0 lost, [1-9]\d* doubled/m, 'with doubled tasks');

done_testing();
