/*-------------------------------------------------------------------------
 *
 * withdrawal_notes.c
 *	  What the transaction under way has withdrawn so far
 *
 * What counts of a schedule is its state at the commit.  A change that the same
 * transaction undoes must leave the request, and its task, as they were: so a
 * request is remembered as it was before it was withdrawn, until the
 * transaction ends.
 *
 * A row may be given the reference that another row is about to leave.  So it is
 * counted how many rows more than one have a reference at the moment: the
 * request stays until the last of them has left it.
 *
 * Those who listen are notified of what was withdrawn as the transaction is about
 * to commit, and not before, since it may yet be restored.
 *
 * Notes are in the order in which they were made.  A subtransaction that is undone
 * takes those along that were made since it began.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "sql/withdrawal_notes.h"
#include "table/notify.h"

typedef enum NoteKind
{
	NOTE_WITHDRAWN,
	NOTE_RESTORED,
	NOTE_HOLDERS
} NoteKind;

typedef struct Note
{
	ReferenceKey key;
	int			previous;		/* note of that key; -1: none */
	NoteKind	kind;
	int			change;			/* of NOTE_HOLDERS */
	const char *reference;		/* of NOTE_WITHDRAWN; may be NULL */
	WithdrawalNote note;		/* of the others; a restored one has its id alone */
} Note;

/* The last note of a reference */
typedef struct KeyEntry
{
	ReferenceKey key;
	int			last;
} KeyEntry;

/* As a subtransaction began, there were so many notes. */
typedef struct Level
{
	int			level;
	int			n_notes;
} Level;

/* All of it is in the memory of the transaction, and forgotten with it. */
static struct
{
	Note	   *notes;			/* NULL: there are none */
	int			n;
	int			size;
	HTAB	   *keys;			/* of KeyEntry */
	Level	   *levels;
	int			n_levels;
	int			levels_size;
}			here;

static void add(const Note *note);
static void begin(void);
static void at_transaction_end(XactEvent event, void *arg);
static void at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
								  SubTransactionId parent, void *arg);
static void note_level(void);
static void notify_all(void);
static int	last_of(ReferenceKey key);

ReferenceKey
reference_key(Oid role, const char *reference)
{
	return hash_combine64(hash_bytes_uint32_extended(role, 0),
						  hash_bytes_extended((const unsigned char *) reference,
											  (int) strlen(reference), 0));
}

/*
 * A request was withdrawn.  One without a reference has a key of 0, and is
 * noted to be notified of alone.
 */
void
notes_withdrawn(ReferenceKey key, const WithdrawalNote *withdrawal,
				const char *reference)
{
	Note		note = {.key = key, .kind = NOTE_WITHDRAWN, .note = *withdrawal};

	if (reference != NULL && notifications_are_wanted() &&
		status_is_finished(withdrawal->to))
		note.reference = MemoryContextStrdup(TopTransactionContext, reference);
	add(&note);
}

/*
 * It is as it was before.
 */
void
notes_restored(ReferenceKey key, int64 id)
{
	Note		note = {.key = key, .kind = NOTE_RESTORED, .note.id = id};

	add(&note);
}

/*
 * The requests of a reference that were withdrawn, and not restored since, the
 * last first: a list of WithdrawalNote, palloc'd.
 */
List *
notes_withdrawn_of(ReferenceKey key)
{
	List	   *withdrawn = NIL;
	List	   *restored = NIL;

	for (int i = last_of(key); i >= 0; i = here.notes[i].previous)
	{
		const Note *note = &here.notes[i];
		ListCell   *cell;
		bool		is_known = false;

		if (note->kind == NOTE_HOLDERS)
			continue;
		foreach(cell, restored)
			is_known |= ((WithdrawalNote *) lfirst(cell))->id == note->note.id;
		foreach(cell, withdrawn)
			is_known |= ((WithdrawalNote *) lfirst(cell))->id == note->note.id;
		if (is_known)
			continue;
		if (note->kind == NOTE_RESTORED)
			restored = lappend(restored, memcpy(palloc(sizeof(WithdrawalNote)),
												&note->note, sizeof(WithdrawalNote)));
		else
			withdrawn = lappend(withdrawn, memcpy(palloc(sizeof(WithdrawalNote)),
												  &note->note, sizeof(WithdrawalNote)));
	}
	return withdrawn;
}

/*
 * One row more, or less, has a reference that another row has as well.
 */
void
notes_change_holders(ReferenceKey key, int change)
{
	Note		note = {.key = key, .kind = NOTE_HOLDERS, .change = change};

	add(&note);
}

/*
 * How many rows have a reference besides the one that is spoken of.
 */
int
notes_other_holders(ReferenceKey key)
{
	int			n = 0;

	for (int i = last_of(key); i >= 0; i = here.notes[i].previous)
	{
		if (here.notes[i].kind == NOTE_HOLDERS)
			n += here.notes[i].change;
	}
	return n;
}

static int
last_of(ReferenceKey key)
{
	KeyEntry   *entry = here.notes == NULL ? NULL :
		hash_search(here.keys, &key, HASH_FIND, NULL);

	return entry == NULL ? -1 : entry->last;
}

static void
add(const Note *note)
{
	KeyEntry   *entry;
	bool		found;

	begin();
	note_level();
	if (here.n == here.size)
	{
		here.notes = repalloc_huge(here.notes,
								   2 * here.size * sizeof(Note));
		here.size *= 2;
	}
	entry = hash_search(here.keys, &note->key, HASH_ENTER, &found);
	here.notes[here.n] = *note;
	here.notes[here.n].previous = found ? entry->last : -1;
	entry->last = here.n++;
}

static void
begin(void)
{
	static bool is_registered = false;
	HASHCTL		info = {
		.keysize = sizeof(ReferenceKey),
		.entrysize = sizeof(KeyEntry),
		.hcxt = TopTransactionContext
	};

	if (!is_registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		RegisterSubXactCallback(at_subtransaction_end, NULL);
		is_registered = true;
	}
	if (here.notes != NULL)
		return;
	here.n = here.n_levels = 0;
	here.size = 64;
	here.levels_size = 8;
	here.levels = MemoryContextAlloc(TopTransactionContext,
									 here.levels_size * sizeof(Level));
	here.keys = hash_create("screenshot_task withdrawals", 64, &info,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	here.notes = MemoryContextAlloc(TopTransactionContext,
									here.size * sizeof(Note));
}

/*
 * Before the first note of a subtransaction, keep how many there were.
 */
static void
note_level(void)
{
	int			level = GetCurrentTransactionNestLevel();

	if (level == 1 ||
		(here.n_levels > 0 && here.levels[here.n_levels - 1].level >= level))
		return;
	if (here.n_levels == here.levels_size)
	{
		here.levels = repalloc(here.levels,
							   2 * here.levels_size * sizeof(Level));
		here.levels_size *= 2;
	}
	here.levels[here.n_levels].level = level;
	here.levels[here.n_levels++].n_notes = here.n;
}

/*
 * A subtransaction that commits leaves its notes to the one around it; what
 * that had noted before is before them.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
					  SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	Level	   *last;

	(void) mine;
	(void) parent;
	(void) arg;
	if (here.notes == NULL || here.n_levels == 0)
		return;
	last = &here.levels[here.n_levels - 1];
	if (last->level < level)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		last->level = level - 1;
		if (last->level == 1 ||
			(here.n_levels > 1 && last[-1].level == last->level))
			here.n_levels--;
	}
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (here.n > last->n_notes)
		{
			const Note *note = &here.notes[--here.n];
			KeyEntry   *entry = hash_search(here.keys, &note->key, HASH_FIND,
											NULL);

			entry->last = note->previous;
		}
		here.n_levels--;
	}
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	(void) arg;
	if (here.notes == NULL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			notify_all();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			here.notes = NULL;
			break;
		default:
			break;
	}
}

/*
 * Notify of what is withdrawn, and finished by that.
 */
static void
notify_all(void)
{
	if (!notifications_are_wanted())
		return;
	for (int i = 0; i < here.n; i++)
	{
		const Note *note = &here.notes[i];
		ListCell   *cell;
		bool		is_withdrawn = note->key == 0;

		if (note->kind != NOTE_WITHDRAWN ||
			!status_is_finished(note->note.to) ||
			status_is_finished(note->note.from))
			continue;
		foreach(cell, is_withdrawn ? NIL : notes_withdrawn_of(note->key))
			is_withdrawn |= ((WithdrawalNote *) lfirst(cell))->id == note->note.id;
		/* It may have been withdrawn, restored, and withdrawn again. */
		for (int later = last_of(note->key);
			 is_withdrawn && note->key != 0 && later > i;
			 later = here.notes[later].previous)
			is_withdrawn = here.notes[later].kind == NOTE_HOLDERS ||
				here.notes[later].note.id != note->note.id;
		if (is_withdrawn)
			notify_result(note->note.id, note->reference, note->note.to, NULL);
	}
}
