//! What is known of each planted bug.

use super::Mode::{self, Paxos, PrimaryBackup, Quorum};
use super::Trigger::{self, ClockDrift, Crash, Network, Partition, Pause, PowerLoss, SlowDisk};
use super::Workload::{Lock, Register};
use super::{Bug, Needs, Workload};

pub(super) struct Entry {
    pub(super) bug: Bug,
    pub(super) name: &'static str,
    pub(super) modes: &'static [Mode],
    pub(super) description: &'static str,
    pub(super) resembles: &'static str,
    pub(super) needs: Needs,
}

pub(super) const ALL: [Bug; ENTRIES.len()] = {
    let mut all = [Bug::AckBeforeDurable; ENTRIES.len()];
    let mut i = 0;
    while i < all.len() {
        all[i] = ENTRIES[i].bug;
        i += 1;
    }
    all
};

const fn needs(workload: Workload, triggers: &'static [Trigger]) -> Needs {
    Needs { workload, triggers, options: &[], retries: false }
}

const fn with(needs: Needs, options: &'static [(Mode, &'static str, &'static str)]) -> Needs {
    Needs { options, ..needs }
}

const fn retries(needs: Needs) -> Needs {
    Needs { retries: true, ..needs }
}

/// Snapshots are taken often enough to matter in a short run.
const SNAPSHOTS: &[(Mode, &str, &str)] = &[(Paxos, "snapshot_every", "50"), (PrimaryBackup, "snapshot_every", "64")];

/// A lease outlasts the election timeout, which otherwise ends it in time.
const LONG_LEASE: &[(Mode, &str, &str)] =
    &[(Paxos, "reads", "lease"), (Paxos, "election_timeout", "300ms"), (Paxos, "lease", "900ms")];

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        bug: Bug::AckBeforeDurable,
        name: "ack-before-durable",
        modes: &[Paxos, PrimaryBackup, Quorum],
        description: "A node acknowledges what it was sent before it is on its disk.",
        resembles: "Redis with `appendfsync everysec` and Kafka with its default flush settings answer before the \
                    data is on disk, as their documentation says: a power cut of all replicas loses acknowledged \
                    writes.",
        needs: needs(Register, &[PowerLoss]),
    },
    Entry {
        bug: Bug::LeaderCountsItselfBeforeDurable,
        name: "leader-counts-itself-before-durable",
        modes: &[Paxos, PrimaryBackup],
        description: "The leader counts its own copy of an entry towards the majority before it is on its disk.",
        resembles: "No incident known to us. Breaks the condition under which Ongaro's thesis (section 10.2.1) lets \
                    a leader write to its disk and send to its followers at the same time.",
        needs: needs(Register, &[PowerLoss]),
    },
    Entry {
        bug: Bug::PromiseBeforeDurable,
        name: "promise-before-durable",
        modes: &[Paxos, PrimaryBackup],
        description: "A node answers a candidate before its promise is on its disk; after a power cut it has never \
                      promised.",
        resembles: "No incident known to us. Breaks the rule of \"Paxos Made Simple\" (section 2.5): an acceptor \
                    records its intended response in stable storage before it sends it.",
        needs: needs(Register, &[PowerLoss, SlowDisk]),
    },
    Entry {
        bug: Bug::LostBallotOnRestart,
        name: "lost-ballot-on-restart",
        modes: &[Paxos, PrimaryBackup],
        description: "A restarted node does not read back the ballot or view it promised last, and may promise or \
                      lead again in an old one.",
        resembles: "No incident known to us. \"Paxos Made Live\" (2007, section 5.1) tells of the same hazard: a \
                    replica whose disk was lost may renege on its promises.",
        needs: needs(Register, &[Crash]),
    },
    Entry {
        bug: Bug::LastRecordDroppedOnRestart,
        name: "last-record-dropped-on-restart",
        modes: &[Paxos, PrimaryBackup, Quorum],
        description: "A restarted node takes the last record of its log for torn and drops it, although it is whole \
                      and was acknowledged.",
        resembles: "\"Protocol-Aware Recovery for Consensus-Based Storage\" (Alagappan et al., FAST 2018) \
                    shows systems that can't tell corruption at the end of the log from a torn write, \
                    truncate, and lose committed data.",
        needs: needs(Register, &[Crash]),
    },
    Entry {
        bug: Bug::TornRecordTakenAsValid,
        name: "torn-record-taken-as-valid",
        modes: &[Paxos, PrimaryBackup, Quorum],
        description: "A restarted node reads its log without a look at the checksums: a record that the power cut \
                      tore counts, with zeros for what is missing of it.",
        resembles: "No incident known to us. Logs carry a checksum for each record against it.",
        needs: needs(Register, &[PowerLoss]),
    },
    Entry {
        bug: Bug::AcceptorForgetsAfterSnapshot,
        name: "acceptor-forgets-after-snapshot",
        modes: &[Paxos],
        description: "A node that restarts from a snapshot has forgotten its promise and what it accepted beyond \
                      the snapshot.",
        resembles: "No incident known to us. Snapshots stand for what was applied, not for an acceptor's promises.",
        needs: with(needs(Register, &[Crash]), &[(Paxos, "snapshot_every", "50")]),
    },
    Entry {
        bug: Bug::AcceptWithoutCheckingPromise,
        name: "accept-without-checking-promise",
        modes: &[Paxos],
        description: "A node accepts from any leader, also in a ballot below the one it promised.",
        resembles: "No incident known to us. Breaks phase 2b of \"Paxos Made Simple\" (section 2.2).",
        needs: needs(Register, &[Partition, Pause, Network]),
    },
    Entry {
        bug: Bug::HighestAcceptedBallotIgnored,
        name: "highest-accepted-ballot-ignored",
        modes: &[Paxos],
        description: "A new leader proposes again whatever value it sees first for a slot, not the one accepted in \
                      the highest ballot.",
        resembles: "No incident known to us; a common mistake in first implementations. Breaks P2c of \"Paxos Made \
                    Simple\" (section 2.2).",
        needs: needs(Register, &[Partition, Pause]),
    },
    Entry {
        bug: Bug::VoteCountedTwice,
        name: "vote-counted-twice",
        modes: &[Paxos],
        description: "A voter's second answer, repeated by the network or after its restart, counts as another \
                      voter's.",
        resembles: "https://github.com/elastic/elasticsearch/issues/2488: under partitions that intersect, one \
                    Elasticsearch node could count towards two masters, and both were elected.",
        needs: with(needs(Register, &[Partition, Network]), &[(Paxos, "nodes", "5")]),
    },
    Entry {
        bug: Bug::OffByOneMajority,
        name: "off-by-one-majority",
        modes: &[Paxos, PrimaryBackup],
        description: "With an even number of nodes, half of them pass for a majority.",
        resembles: "Elasticsearch before 7.0 with `minimum_master_nodes` at half of the master-eligible nodes, a \
                    common operator's mistake: each half of a partition elected a master.",
        needs: with(needs(Register, &[Partition]), &[(Paxos, "nodes", "4"), (PrimaryBackup, "nodes", "4")]),
    },
    Entry {
        bug: Bug::DuellingProposers,
        name: "duelling-proposers",
        modes: &[Paxos],
        description: "Candidates neither ask before they prepare nor back off: whoever is overtaken tries again at \
                      once, and nobody gets to lead (livelock).",
        resembles: "Described as a lack of progress in \"Paxos Made Simple\" (section 2.4).",
        needs: with(needs(Register, &[Crash]), &[(Paxos, "nodes", "5")]),
    },
    Entry {
        bug: Bug::CommitIndexRegresses,
        name: "commit-index-regresses",
        modes: &[Paxos],
        description: "A follower takes in a snapshot that is older than what it has applied.",
        resembles: "Kafka before KIP-207 \
                    (https://cwiki.apache.org/confluence/display/KAFKA/KIP-207%3A+Offsets+returned+by+ListOffsetsResponse+should+be+monotonically+increasing+even+during+a+partition+leader+change): \
                    after a change of leader the latest offset could go backwards.",
        needs: with(needs(Register, &[Partition, Network]), &[(Paxos, "snapshot_every", "4")]),
    },
    Entry {
        bug: Bug::ReadBeforeApply,
        name: "read-before-apply",
        modes: &[Paxos, PrimaryBackup],
        description: "A new leader answers reads before it has applied what its predecessors acknowledged.",
        resembles: "No incident known to us. Breaks the first step of the read index in Ongaro's thesis (section \
                    6.4): no reads before an entry of the leader's own term is committed.",
        needs: needs(Register, &[Crash, Partition, SlowDisk]),
    },
    Entry {
        bug: Bug::StaleLeaseAfterLeaderChange,
        name: "stale-lease-after-leader-change",
        modes: &[Paxos],
        description: "Followers promise others while the lease that they granted their leader still runs, so the old \
                      leader answers from its lease while a new one writes.",
        resembles: "MongoDB 2.6.7 (https://aphyr.com/posts/322-jepsen-mongodb-stale-reads): reads from a \
                    primary that had been replaced were stale.",
        needs: retries(with(needs(Register, &[Partition, ClockDrift]), LONG_LEASE)),
    },
    Entry {
        bug: Bug::LeaseIgnoresClockDrift,
        name: "lease-ignores-clock-drift",
        modes: &[Paxos],
        description: "The leader uses its lease to the end by its own clock, without the margin for clocks that run \
                      at different rates.",
        resembles: "No incident known to us. Gray and Cheriton, \"Leases\" (1989), have the holder shorten its term \
                    by the clocks' uncertainty.",
        needs: retries(with(
            needs(Register, &[Partition, ClockDrift]),
            &[
                (Paxos, "reads", "lease"),
                (Paxos, "election_timeout", "300ms"),
                (Paxos, "lease", "300ms"),
                (Paxos, "max_clock_drift_ppm", "600000"),
            ],
        )),
    },
    Entry {
        bug: Bug::LeaseCountedFromAnswer,
        name: "lease-counted-from-answer",
        modes: &[Paxos],
        description: "The leader counts its lease from when the answer arrived, not from when the question was sent: \
                      after a pause, old answers pass for a fresh lease.",
        resembles: "The pause in Kleppmann's \"How to do distributed locking\" (2016): a process that was stopped \
                    goes on as though no time had passed.",
        needs: retries(with(needs(Register, &[Pause, Partition]), &[(Paxos, "reads", "lease")])),
    },
    Entry {
        bug: Bug::LeaseGrantLostOnRestart,
        name: "lease-grant-lost-on-restart",
        modes: &[Paxos],
        description: "A restarted follower has forgotten the lease that it granted, and elects another leader at \
                      once.",
        resembles: "No incident known to us. Gray and Cheriton, \"Leases\" (1989, section 2), have a restarted \
                    server wait until every lease it may have granted has expired.",
        needs: retries(with(needs(Register, &[Crash, Partition, ClockDrift]), LONG_LEASE)),
    },
    Entry {
        bug: Bug::RetryAppliedTwice,
        name: "retry-applied-twice",
        modes: &[Paxos, PrimaryBackup],
        description: "Requests that a client repeats are not recognised, and applied again.",
        resembles: "Kafka's producer before it became idempotent (KIP-98): a send repeated after a lost answer \
                    was appended twice.",
        needs: retries(needs(Register, &[SlowDisk])),
    },
    Entry {
        bug: Bug::ClientTableLostInSnapshot,
        name: "client-table-lost-in-snapshot",
        modes: &[Paxos, PrimaryBackup],
        description: "Snapshots leave out which requests have been applied, so that a repetition is applied again \
                      where the state came from a snapshot.",
        resembles: "No incident known to us. Ongaro's thesis (section 6.3) makes the clients' sessions a part of the \
                    replicated state, snapshots included.",
        needs: retries(with(
            needs(Register, &[Crash, SlowDisk]),
            &[(Paxos, "snapshot_every", "4"), (PrimaryBackup, "snapshot_every", "64")],
        )),
    },
    Entry {
        bug: Bug::PromotionWithoutCatchUp,
        name: "promotion-without-catch-up",
        modes: &[PrimaryBackup],
        description: "Nodes vote for any candidate, however short its log: it leads without what was acknowledged.",
        resembles: "Kafka's unclean leader election (https://aphyr.com/posts/293-jepsen-kafka): a replica that \
                    was not in sync became leader, and acknowledged messages were lost.",
        needs: needs(Register, &[Partition, Crash]),
    },
    Entry {
        bug: Bug::DeposedPrimaryStillAcks,
        name: "deposed-primary-still-acks",
        modes: &[PrimaryBackup],
        description: "A primary that is cut off from the majority leaves the silent backups out and goes on \
                      acknowledging.",
        resembles: "Redis Sentinel (https://aphyr.com/posts/283-jepsen-redis): the old primary went on \
                    acknowledging writes on its side of the partition, and they were lost.",
        needs: needs(Register, &[Partition]),
    },
    Entry {
        bug: Bug::AsyncAckDuringViewChange,
        name: "async-ack-during-view-change",
        modes: &[PrimaryBackup],
        description: "Until the first entry of its view is replicated, a new primary acknowledges what is on its own \
                      disk only.",
        resembles: "MySQL's semi-synchronous replication reverts to asynchronous when no replica answers in \
                    time (https://dev.mysql.com/doc/refman/9.5/en/replication-semisync-interface.html): what \
                    is acknowledged then is lost in a failover.",
        needs: needs(Register, &[Partition, PowerLoss, SlowDisk]),
    },
    Entry {
        bug: Bug::LogTruncatedPastCommit,
        name: "log-truncated-past-commit",
        modes: &[PrimaryBackup],
        description: "On a view change a node cuts its log back to what it has applied: entries that were \
                      acknowledged, and that it had not yet been told are committed, are gone.",
        resembles: "Kafka before KIP-101 \
                    (https://cwiki.apache.org/confluence/display/KAFKA/KIP-101+-+Alter+Replication+Protocol+to+use+Leader+Epoch+rather+than+High+Watermark+for+Truncation): \
                    followers truncated to their own high watermark, which lags, and acknowledged messages \
                    were lost.",
        needs: needs(Register, &[Crash]),
    },
    Entry {
        bug: Bug::BackupAnswersReads,
        name: "backup-answers-reads",
        modes: &[PrimaryBackup],
        description: "A backup answers reads from what it has applied, although only the primary should.",
        resembles: "etcd and Consul (https://aphyr.com/posts/316-call-me-maybe-etcd-and-consul): nodes \
                    answered reads from their local state, and they were stale.",
        needs: needs(Register, &[]),
    },
    Entry {
        bug: Bug::BackupDroppedWithoutFencing,
        name: "backup-dropped-without-fencing",
        modes: &[PrimaryBackup],
        description: "A primary goes on without a silent backup that has not been shut off, and that may be about to \
                      take over.",
        resembles: "MySQL's semi-synchronous replication, which gives up waiting after a timeout \
                    (https://dev.mysql.com/doc/refman/9.5/en/replication-semisync-interface.html), with an \
                    automatic failover beside it.",
        needs: with(needs(Register, &[Partition]), &[(PrimaryBackup, "failover", "fenced")]),
    },
    Entry {
        bug: Bug::QuorumsDoNotOverlap,
        name: "quorums-do-not-overlap",
        modes: &[Quorum],
        description: "A write waits for N - R replicas, one too few: R + W = N, and a read may miss it.",
        resembles: "Cassandra with reads and writes at consistency level ONE: reads may miss acknowledged writes, as \
                    documented.",
        needs: needs(Register, &[]),
    },
    Entry {
        bug: Bug::ReadRepairWritesOlderTag,
        name: "read-repair-writes-older-tag",
        modes: &[Quorum],
        description: "Read repair sends the value that was read to every replica that answered otherwise, and it replaces \
                      a newer one.",
        resembles: "Cassandra's deleted rows that come back: a repair from a replica that missed the deletion undoes \
                    it once the tombstone is gone.",
        needs: needs(Register, &[Partition, Network]),
    },
    Entry {
        bug: Bug::TieBrokenByArrival,
        name: "tie-broken-by-arrival",
        modes: &[Quorum],
        description: "Replicas compare only the times of tags: of two writes with the same time each keeps whichever \
                      reached it first.",
        resembles: "No incident known to us. Cassandra, which orders writes by timestamps, lets the greater \
                    value win a tie, so that all replicas agree.",
        needs: needs(Register, &[]),
    },
    Entry {
        bug: Bug::LifeReusedAfterRestart,
        name: "life-reused-after-restart",
        modes: &[Quorum],
        description: "A restarted coordinator numbers its rounds as in its last life, and takes late answers to the \
                      old ones for answers to the new.",
        resembles: "No incident known to us. \"Viewstamped Replication Revisited\" (2012, section 4.3) has a \
                    recovering node use a nonce for this reason.",
        needs: needs(Register, &[Crash, Network]),
    },
    Entry {
        bug: Bug::FencingTokenReused,
        name: "fencing-token-reused",
        modes: &[Paxos, PrimaryBackup, Quorum],
        description: "The highest fencing token is not kept over a restart (from a snapshot, in the modes with a \
                      log): tokens are granted again.",
        resembles: "Hazelcast 3.8.3 (https://jepsen.io/analyses/hazelcast-3-8-3): ids that should have been \
                    unique were given out twice after a partition.",
        needs: with(needs(Lock, &[Crash]), SNAPSHOTS),
    },
    Entry {
        bug: Bug::LockReleasedByStaleHolder,
        name: "lock-released-by-stale-holder",
        modes: &[Paxos, PrimaryBackup, Quorum],
        description: "A release frees the lock whoever holds it: one that comes after its lease frees the next \
                      holder's.",
        resembles: "Locks in Redis released by a plain DEL: the documentation has a client delete only its own \
                    (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).",
        needs: needs(Lock, &[Pause]),
    },
    Entry {
        bug: Bug::LeaseRenewedAfterExpiry,
        name: "lease-renewed-after-expiry",
        modes: &[Paxos, PrimaryBackup, Quorum],
        description: "A renewal is granted without a look at whose the lock is by now: a holder whose lease ran out \
                      believes that it holds the lock again.",
        resembles: "etcd 3.4.3 (https://github.com/etcd-io/etcd/issues/11456): a client was told that it held \
                    the lock without a look at whether its lease still ran.",
        needs: needs(Lock, &[Pause]),
    },
    Entry {
        bug: Bug::LockLeaseForgottenOnRestart,
        name: "lock-lease-forgotten-on-restart",
        modes: &[Quorum],
        description: "A restarted replica has forgotten the leases that it granted, and grants the lock again.",
        resembles: "Redlock without persistence: its documentation has a restarted node stay out for longer \
                    than the longest lease \
                    (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).",
        needs: needs(Lock, &[Crash]),
    },
];
