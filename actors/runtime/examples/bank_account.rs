//! A bank account that survives restarts and never pays the same withdrawal twice: the runtime in one file.
//! Run it: `cargo run --release -p microcommerce-runtime --example bank_account`

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use microcommerce_runtime::{
    AskError, CommandId, CommandMeta, Entities, EntitiesConfig, Entity, Gate, Journal, Roster,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};
use ractor::{Actor, ActorRef};
use serde::{Deserialize, Serialize};

// 1. The rules: two pure functions. No clock, no I/O: that is why they can be tested, and replayed.
struct Account;
enum AccountCommand {
    Deposit(u64),
    Withdraw(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum AccountEvent {
    Deposited { amount: u64 },
    Withdrawn { amount: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Overdrawn(u64);

impl Entity for Account {
    const KIND: &'static str = "account";
    type State = u64;
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Refusal = Overdrawn;

    fn decide(balance: &u64, command: AccountCommand) -> Result<Vec<AccountEvent>, Overdrawn> {
        match command {
            AccountCommand::Deposit(amount) => Ok(vec![AccountEvent::Deposited { amount }]),
            AccountCommand::Withdraw(amount) if amount > *balance => Err(Overdrawn(*balance)),
            AccountCommand::Withdraw(amount) => Ok(vec![AccountEvent::Withdrawn { amount }]),
        }
    }
    fn evolve(balance: &mut u64, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited { amount } => *balance += amount,
            AccountEvent::Withdrawn { amount } => *balance -= amount,
        }
    }
}

impl EventPayload for AccountEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Deposited { .. } => "account.deposited",
            Self::Withdrawn { .. } => "account.withdrawn",
        }
    }
}

// 2. The bank: a journal in a directory, the accounts on it, a supervisor above them.
type Bank = (Entities<Account>, Arc<SqliteJournal>, ActorRef<SupervisorMessage>);

async fn open(directory: &Path) -> Result<Bank, Box<dyn Error>> {
    let (journal, roster) = (SqliteJournal::open(&SqliteOptions::new(directory, ""))?, Roster::new());
    let as_journal: Arc<dyn Journal> = journal.clone();
    let accounts = Entities::new(as_journal, &Gate::new(1_000), EntitiesConfig::default(), roster.clone());
    let spec = SupervisorSpec::new("bank", accounts.shards());
    Ok((accounts, journal, Supervisor::spawn(None, Supervisor, (spec, roster)).await?.0))
}

/// What travels with a command. The id makes a repeat a repeat: take it from whoever asks.
fn meta(id: &str) -> CommandMeta {
    CommandMeta::new(CommandId::of(&[id]), Duration::from_secs(5))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (accounts, journal, supervisor) = open(directory.path()).await?;
    // 3. Every answer comes after its commit. The rules may say no: that is an answer, and recorded as well.
    accounts.ask("alice", AccountCommand::Deposit(100), meta("deposit-1")).await?;
    let paid = accounts.ask("alice", AccountCommand::Withdraw(30), meta("withdrawal-1")).await?;
    let refused = accounts.ask("alice", AccountCommand::Withdraw(500), meta("withdrawal-2")).await;
    assert!(matches!(refused, Err(AskError::Refused(Overdrawn(70)))));
    // 4. Stop everything, and open the same directory again.
    supervisor.stop_and_wait(None, None).await?;
    journal.close().await;
    let (accounts, ..) = open(directory.path()).await?;
    // 5. The client heard nothing and repeats its command: the first outcome again, and nothing is paid.
    let again = accounts.ask("alice", AccountCommand::Withdraw(30), meta("withdrawal-1")).await?;
    assert!(again.is_repeat && again.events == paid.events);
    let balance = accounts.read("alice", meta("").deadline, |balance, _| *balance).await?;
    println!("100 - 30, a refusal, a restart and a repeat: the balance is {balance}");
    assert_eq!(balance, 70);
    Ok(())
}
