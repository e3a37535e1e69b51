//! Tokens: signed access tokens, and refresh tokens that follow one from another.
//!
//! One file holds the service's secret: an Ed25519 key as PKCS#8 in DER (RFC 8410), made once, readable by its owner alone.
//! Access tokens are JWTs signed with it (EdDSA, never another algorithm); verifiers need only the [`PublicKey`]. From
//! the same secret comes the key of the refresh tokens: the secret of a successor is the HMAC-SHA256 of its predecessor.
//! To everybody else it is as good as random, and this service can give a lost successor again without having kept it.
//!
//! Whoever has the file can sign tokens. Without it all users sign in again, and nothing else is lost.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use contracts::{
    Claims, SessionId, Timestamp, UserId,
    claims::{ACCESS_TOKEN_LIFETIME_SECONDS, AUDIENCE, ISSUER},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, crypto,
    jwk::{AlgorithmParameters, Jwk},
};
use runtime::private_files;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::{hex, refresh_token::RefreshToken, role::Role};

/// What stands before the 32 bytes of an Ed25519 private key in PKCS#8 (RFC 8410, §7).
const PKCS8_HEADER: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// The length of the key file in bytes.
const PKCS8_LEN: usize = PKCS8_HEADER.len() + 32;

/// Why there is no key: one plain sentence each, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file is there and cannot be read.
    #[error("cannot read the token key {}: {cause}", .file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is not there and cannot be written.
    #[error("cannot write the token key {}: {cause}", .file.display())]
    Unwritable {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{} is not an Ed25519 key in PKCS#8: put the right file back, or remove it to have a new key made, and everybody \
         signs in again",
        .0.display()
    )]
    NotAKey(PathBuf),
}

/// A token could not be made: the system gave no randomness, or the key is unusable. It does not happen in practice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token could not be made")]
pub struct TokenNotMade;

/// What verifiers need: they can check tokens with it and sign none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    x: String,
    bytes: [u8; 32],
    id: String,
}

impl PublicKey {
    /// The 32 bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The same in base64url: the member `x` of a JSON Web Key (`kty` OKP, `crv` Ed25519).
    #[must_use]
    pub fn x(&self) -> &str {
        &self.x
    }

    /// The key's name in the header of tokens (`kid`): the first 64 bits of its SHA-256, in hexadecimal.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Makes tokens; see the module's text. Its `Debug` text hides the key.
pub struct TokenIssuer {
    header: Header,
    signing_key: EncodingKey,
    refresh_key: EncodingKey,
    public_key: PublicKey,
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").field("key", &self.public_key.id).finish_non_exhaustive()
    }
}

impl TokenIssuer {
    /// The issuer whose key is in `file`. If there is no such file, a key is made and written there, with mode 0600 and
    /// flushed, before the first token is signed. One process at a time: open the journal of the same directory first,
    /// which locks it. It blocks on the disk.
    ///
    /// # Errors
    /// [`KeyFileError`], each a plain sentence.
    pub fn load_or_create(file: &Path) -> Result<Self, KeyFileError> {
        private_files::close_to_others(file);
        let pkcs8 = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                create_key(file).map_err(|cause| KeyFileError::Unwritable { file: file.to_owned(), cause })?
            }
            Err(cause) => return Err(KeyFileError::Unreadable { file: file.to_owned(), cause }),
        };
        Self::from_pkcs8(&pkcs8).ok_or_else(|| KeyFileError::NotAKey(file.to_owned()))
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        if pkcs8.len() != PKCS8_LEN {
            return None;
        }
        let signing_key = EncodingKey::from_ed_der(pkcs8);
        let jwk = Jwk::from_encoding_key(&signing_key, Algorithm::EdDSA).ok()?;
        let AlgorithmParameters::OctetKeyPair(pair) = jwk.algorithm else { return None };
        let key = DecodingKey::from_ed_components(&pair.x).ok()?;
        let bytes: [u8; 32] = key.try_get_as_bytes().ok()?.try_into().ok()?;
        let id = hex::encode(&Sha256::digest(bytes)[..8]);
        let refresh_secret =
            Sha256::new().chain_update(b"microcommerce refresh tokens 1\n").chain_update(pkcs8).finalize();
        let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::EdDSA) };
        Some(Self {
            header,
            signing_key,
            refresh_key: EncodingKey::from_secret(&refresh_secret),
            public_key: PublicKey { x: pair.x, bytes, id },
        })
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// An access token that is good from `at` for [`ACCESS_TOKEN_LIFETIME_SECONDS`].
    ///
    /// # Errors
    /// [`TokenNotMade`].
    pub fn access_token(
        &self,
        user_id: &UserId,
        roles: &[Role],
        session_id: &SessionId,
        at: Timestamp,
    ) -> Result<String, TokenNotMade> {
        let issued_at = at.as_seconds().unsigned_abs();
        let claims = Claims {
            sub: user_id.as_str().to_owned(),
            roles: roles.iter().map(|role| role.name().to_owned()).collect(),
            sid: session_id.as_str().to_owned(),
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            exp: issued_at + ACCESS_TOKEN_LIFETIME_SECONDS,
            iat: issued_at,
            jti: Ulid::generate().to_string(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.signing_key).map_err(|_| TokenNotMade)
    }

    /// The first refresh token of a session: 256 fresh random bits.
    ///
    /// # Errors
    /// [`TokenNotMade`].
    pub fn first_refresh_token(&self, session_id: &SessionId) -> Result<RefreshToken, TokenNotMade> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| TokenNotMade)?;
        self.refresh_token(session_id, &random)
    }

    /// The token that follows `spent`: always the same one.
    ///
    /// # Errors
    /// [`TokenNotMade`].
    pub fn successor(&self, spent: &RefreshToken) -> Result<RefreshToken, TokenNotMade> {
        self.refresh_token(spent.session_id(), spent.as_str().as_bytes())
    }

    fn refresh_token(&self, session_id: &SessionId, seed: &[u8]) -> Result<RefreshToken, TokenNotMade> {
        let secret = crypto::sign(seed, &self.refresh_key, Algorithm::HS256).map_err(|_| TokenNotMade)?;
        RefreshToken::new(session_id, &secret).ok_or(TokenNotMade)
    }
}

/// Makes a key and puts it in place whole: a crash leaves a good file or none.
fn create_key(file: &Path) -> io::Result<Vec<u8>> {
    let mut pkcs8 = PKCS8_HEADER.to_vec();
    pkcs8.resize(PKCS8_LEN, 0);
    getrandom::fill(&mut pkcs8[PKCS8_HEADER.len()..]).map_err(io::Error::other)?;

    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    private_files::create_shared_folder(directory)?;
    let mut draft_name = file.as_os_str().to_owned();
    draft_name.push(".new");
    let draft = PathBuf::from(draft_name);
    // A draft that a crash left may have been written by halves, with whatever mode.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = private_files::options().write(true).create_new(true).open(&draft)?;
    written.write_all(&pkcs8)?;
    written.sync_all()?;
    fs::rename(&draft, file)?;
    // The name is durable only with its directory.
    File::open(directory)?.sync_all()?;
    Ok(pkcs8)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Validation;

    use super::*;

    fn issuer() -> (tempfile::TempDir, TokenIssuer) {
        let directory = tempfile::tempdir().unwrap();
        let issuer = TokenIssuer::load_or_create(&directory.path().join("token.key")).unwrap();
        (directory, issuer)
    }

    fn read(token: &str, key: &PublicKey) -> Result<Claims, jsonwebtoken::errors::Error> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        jsonwebtoken::decode(token, &DecodingKey::from_ed_der(key.as_bytes()), &validation).map(|data| data.claims)
    }

    #[test]
    fn a_token_is_verified_with_the_public_key_alone_and_by_no_other() {
        let (_directory, issuer) = issuer();
        let (user_id, session_id) = (UserId::generate(), SessionId::generate());
        let now = Timestamp::now();
        let token = issuer.access_token(&user_id, &[Role::Customer, Role::Admin], &session_id, now).unwrap();
        let claims = read(&token, issuer.public_key()).unwrap();
        assert_eq!((claims.sub.as_str(), claims.sid.as_str()), (user_id.as_str(), session_id.as_str()));
        assert_eq!(claims.roles, ["customer", "admin"]);
        assert_eq!(claims.exp - claims.iat, ACCESS_TOKEN_LIFETIME_SECONDS);
        assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid.as_deref(), Some(issuer.public_key().id()));

        let (_other_directory, other) = self::issuer();
        assert!(read(&token, other.public_key()).is_err());
        let long_ago = Timestamp::from_seconds(now.as_seconds() - 3_600);
        let expired = issuer.access_token(&user_id, &[], &session_id, long_ago).unwrap();
        assert!(read(&expired, issuer.public_key()).is_err());
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone_and_a_draft_left_by_a_crash_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nested").join("token.key");
        fs::create_dir(directory.path().join("nested")).unwrap();
        fs::write(directory.path().join("nested").join("token.key.new"), "half").unwrap();
        let first = TokenIssuer::load_or_create(&file).unwrap();
        let again = TokenIssuer::load_or_create(&file).unwrap();
        assert_eq!(first.public_key(), again.public_key());
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_one_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token.key");
        for wrong in [vec![], vec![0; PKCS8_LEN], vec![1; 7]] {
            fs::write(&file, wrong).unwrap();
            let error = TokenIssuer::load_or_create(&file).unwrap_err().to_string();
            assert!(error.contains("is not an Ed25519 key") && error.lines().count() == 1, "{error}");
        }
        let under_a_file = file.join("token.key");
        assert_eq!(TokenIssuer::load_or_create(&under_a_file).unwrap_err().to_string().lines().count(), 1);
    }

    #[test]
    fn a_successor_is_always_the_same_and_nobody_else_can_compute_it() {
        let (_directory, issuer) = issuer();
        let session_id = SessionId::generate();
        let first = issuer.first_refresh_token(&session_id).unwrap();
        assert_ne!(first, issuer.first_refresh_token(&session_id).unwrap());
        let second = issuer.successor(&first).unwrap();
        assert_eq!(second, issuer.successor(&first).unwrap());
        assert_ne!(second, issuer.successor(&second).unwrap());
        let (_other_directory, other) = self::issuer();
        assert_ne!(second, other.successor(&first).unwrap());
    }
}
