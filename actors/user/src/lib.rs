#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]
//! Users: registration, sign-in, sessions, profiles and roles. It knows neither HTTP nor a message broker.
//!
//! # Layout
//!
//! - [`service`]: [`UserService`], the use cases; [`outbox`]: what the world is told of them; [`error`]: how they fail.
//! - Entities, each a pure decider: [`email_claim`] (one writer per e-mail address), [`user`], [`session`] (the family of
//!   one sign-in's refresh tokens).
//! - Values: [`email`], [`profile`], [`role`], [`signed_in`], [`validation`].
//! - Secrets: [`password`] (Argon2id on a bounded pool), [`token_issuer`] (EdDSA access tokens), [`refresh_token`].
//!
//! # What is kept where
//!
//! E-mail addresses and password hashes are in the payloads of this service's own journal and in its table `users`, and
//! nowhere else: not in stream names, not on topics, not in tokens, not in logs. A refresh token is kept as its SHA-256.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a line may be lost and must not matter: use tracing")]

pub mod email;
pub mod email_claim;
pub mod error;
#[cfg(test)]
mod golden_corpus;
mod hex;
pub mod outbox;
pub mod password;
pub mod profile;
#[cfg(test)]
mod query_plans;
pub mod refresh_token;
pub mod role;
pub mod service;
pub mod session;
pub mod signed_in;
pub mod token_issuer;
pub mod user;
pub mod validation;
mod views;

pub use email::Email;
pub use error::UserError;
pub use password::Password;
pub use profile::{Address, AddressPatch, Change, Profile, ProfilePatch};
pub use role::Role;
pub use runtime::RequestContext;
pub use service::{Account, Ensured, UserService, UserServiceConfig};
pub use signed_in::{SignedIn, Tokens};
pub use token_issuer::{PublicKey, TokenIssuer};
pub use validation::{FieldError, Registration};
