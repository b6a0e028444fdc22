/*
 * The wake-up protocol of shm/ring.h, with explicit store buffers.
 *
 * Two processors in the manner of x86 (TSO): each store goes into a buffer of
 * its own processor and reaches memory at any later time, in order; a load
 * looks into its own buffer first, then into memory; a full fence waits until
 * the own buffer is empty.  That is weaker than any barrier the code relies
 * on but the two fences, which are what is to be proved.
 *
 *   waker    (axion_client_submit, axion_channel_flush):
 *              store index; FENCE; load need_wakeup; ring if it is a new
 *              ticket
 *   sleeper  (axion_client_arm, axion_channel_arm):
 *              store ticket; FENCE; load index; sleep if nothing is new
 *
 * A doorbell is a byte in a socket: it stays until it is read.  Proved: the
 * sleeper reads all N records in every order of events.  Had it gone to sleep
 * on a record with no doorbell to come, it would stand for ever before the
 * empty socket, which spin reports as an invalid end state.
 *
 * Delete a fence with -DNO_WAKER_FENCE or -DNO_SLEEPER_FENCE and spin shows
 * the lost wake-up; test_wakeup_model.sh holds that it does.  -DRING_ALWAYS
 * leaves the tickets out (a doorbell per store that finds need_wakeup set);
 * -DTICKETS=5 lets them come again after five sleeps, and spin shows why they
 * must not: one that comes again may be the one that was rung for.
 */

#ifndef N
#define N 3
#endif
#define WAKER   0
#define SLEEPER 1

/* memory */
byte tail;         /* records published */
byte need_wakeup;  /* 0: awake, else a ticket */
byte doorbells;    /* bytes in the sleeper's socket */

/* The store buffers.  Each processor stores one variable only and loads the
 * other's, so that looking into the own buffer first never matters here. */
chan buffer_tail = [2] of { byte };
chan buffer_need = [2] of { byte };

/* what the processors themselves know */
byte read_records;

inline fence(buffer)
{
	empty(buffer)
}

/* Memory takes one store from either buffer at any time. */
active proctype memory()
{
	byte value;
end:
	do
	:: atomic { buffer_tail?value -> tail = value }
	:: atomic { buffer_need?value -> need_wakeup = value }
	od
}

active proctype waker()
{
	byte own = 0;
	byte ticket;
	byte rung = 0;

	do
	:: own < N ->
		own++;
		buffer_tail!own;
#ifndef NO_WAKER_FENCE
		fence(buffer_tail);
#endif
		ticket = need_wakeup;
		if
#ifdef RING_ALWAYS
		:: ticket != 0 -> doorbells = (doorbells < 3 -> doorbells + 1 : 3)
#else
		:: ticket != 0 && ticket != rung ->
			/* A full socket (EAGAIN) has a byte already. */
			doorbells = (doorbells < 3 -> doorbells + 1 : 3);
			rung = ticket
#endif
		:: else
		fi
	:: else -> break
	od
}

active proctype sleeper()
{
	byte seen;
	byte ticket = 0;

	do
	:: read_records == N -> break
	:: else ->
		/* drain */
		seen = tail;
		if
		:: seen != read_records -> read_records = seen
		:: else ->
			/* arm: a ticket is not 0 and was never there before */
#ifdef TICKETS
			ticket = (ticket % TICKETS) + 1;
#else
			ticket++;
#endif
			buffer_need!ticket;
#ifndef NO_SLEEPER_FENCE
			fence(buffer_need);
#endif
			seen = tail;
			if
			:: seen != read_records ->
				buffer_need!0 /* disarm */
			:: else ->
				/* poll: only a doorbell wakes us */
				atomic { doorbells > 0 -> doorbells = 0 };
				buffer_need!0
			fi
		fi
	od
}
