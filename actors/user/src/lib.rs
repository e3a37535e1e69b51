#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]
//! Users: registration, sign-in, sessions, profiles and roles. It knows neither HTTP nor a message broker.
//!
//! # Layout
//!
//! - [`service`]: [`UserService`], the use cases of those who buy, with `sign_in` for their sessions; [`access`]: who may do what; [`credentials`]: passwords
//!   that are changed; [`operator`]: what may be done from the shop's own machine; [`refusals`]: what is kept of sign-ins
//!   that were refused; [`outbox`]: what the world is told of them all; [`error`]: how they fail.
//! - Entities, each a pure decider: [`email_claim`] (one writer per e-mail address), [`user`], [`session`] (the family of
//!   one sign-in's refresh tokens), [`administrators`] (that one is left).
//! - Values: [`email`], [`profile`], [`role`], [`signed_in`], [`validation`].
//! - Secrets: [`password`] (Argon2id on a bounded pool), [`token_issuer`] (EdDSA access tokens), [`refresh_token`].
//!
//! # What is kept where
//!
//! E-mail addresses and password hashes are in the payloads of this service's own journal and in its table `users`, and
//! nowhere else: not in stream names, not on topics, not in tokens, not in logs. A refresh token is kept as its SHA-256.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a line may be lost and must not matter: use tracing")]

pub mod access;
pub mod administrators;
mod commands;
pub mod credentials;
pub mod email;
pub mod email_claim;
pub mod error;
#[cfg(test)]
mod golden_corpus;
mod hex;
pub mod operator;
pub mod outbox;
pub mod password;
pub mod profile;
#[cfg(test)]
mod query_plans;
pub mod refresh_token;
pub mod refusals;
pub mod role;
pub mod service;
pub mod session;
mod sign_in;
pub mod signed_in;
pub mod token_issuer;
pub mod user;
pub mod validation;
mod views;

pub use access::{AccessChange, AccessChanged, UserPage};
pub use email::Email;
pub use error::UserError;
pub use operator::{OperatorAnswer, OperatorWish};
pub use password::Password;
pub use profile::{Address, AddressPatch, Change, Profile, ProfilePatch};
pub use role::{Authority, Grant, Role};
pub use runtime::RequestContext;
pub use service::{UserService, UserServiceConfig};
pub use signed_in::{SignedIn, Tokens};
pub use token_issuer::{PublicKey, TokenIssuer};
pub use validation::{FieldError, Registration};
