//! Commands with their headers and authorizations, and responses with theirs.

use std::thread::sleep;
use std::time::Duration;

use crate::wire::{Reader, Writer};
use crate::{Error, LARGEST_MESSAGE, Transport};

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const HEADER: usize = 10;
/// The session that stands for a password, Part 2 §7.4.
const PASSWORD: u32 = 0x4000_0009;

/// A TPM that tests itself answers this often with "later", with these pauses in between: 2.5 s in all.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// Response codes, Part 2 §6.6.3.
pub(crate) mod code {
    pub(crate) const AUTH_FAIL: u32 = 0x08e;
    pub(crate) const POLICY_FAIL: u32 = 0x09d;
    pub(crate) const INTEGRITY: u32 = 0x09f;
    pub(crate) const BAD_AUTH: u32 = 0x0a2;
    pub(crate) const PCR_CHANGED: u32 = 0x128;
    pub(crate) const LOCKOUT: u32 = 0x921;
    /// Yielded, testing, retry.
    pub(crate) const LATER: [u32; 3] = [0x908, 0x90a, 0x922];
    const FORMAT_ONE: u32 = 0x080;

    /// Without the number of the parameter, handle or session it is about.
    pub(crate) fn plain(code: u32) -> u32 {
        if code & FORMAT_ONE == 0 {
            code
        } else {
            code & 0x0bf
        }
    }
}

/// A command, Part 3.
pub(crate) struct Command<'a> {
    pub(crate) name: &'static str,
    pub(crate) code: u32,
    pub(crate) handles: &'a [u32],
    pub(crate) auth: Auth,
    pub(crate) parameters: Writer,
    /// Whether its response has a handle.
    pub(crate) gives_handle: bool,
}

/// Who may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Everybody.
    None,
    /// Who knows the password, which is empty.
    EmptyPassword,
    /// Who holds a policy session. It ends with the command.
    Policy(u32),
}

/// A response without header and authorizations.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) handle: Option<u32>,
    pub(crate) parameters: Vec<u8>,
}

impl Command<'_> {
    fn write(&self) -> Vec<u8> {
        let mut body = Writer::default();
        for handle in self.handles {
            body = body.u32(*handle);
        }
        let session = match self.auth {
            Auth::None => None,
            Auth::EmptyPassword => Some(PASSWORD),
            Auth::Policy(session) => Some(session),
        };
        if let Some(session) = session {
            // Handle, empty nonce, no attributes, empty password or HMAC.
            let area = Writer::default()
                .u32(session)
                .sized(&[])
                .u8(0)
                .sized(&[])
                .finish();
            body = body
                .u32(u32::try_from(area.len()).unwrap_or(u32::MAX))
                .bytes(&area);
        }
        let body = body.bytes(&self.parameters.clone().finish()).finish();
        let tag = if session.is_some() {
            SESSIONS
        } else {
            NO_SESSIONS
        };
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        Writer::default()
            .u16(tag)
            .u32(length)
            .u32(self.code)
            .bytes(&body)
            .finish()
    }

    /// Sends it, again while the TPM says "later".
    pub(crate) fn run(&self, transport: &mut impl Transport) -> Result<Response, Error> {
        let message = self.write();
        for _ in 0..TRIES {
            let answer = transport.transact(&message);
            let answer = answer.map_err(|source| Error::Unreachable {
                command: self.name,
                source,
            })?;
            let malformed = |what| Error::Malformed {
                command: self.name,
                what,
            };
            match self.read(&answer).map_err(malformed)? {
                Ok(response) => return Ok(response),
                Err(code) if code::LATER.contains(&code) => sleep(PAUSE),
                Err(code) if code::plain(code) == code::LOCKOUT => return Err(Error::LockedOut),
                Err(code) => {
                    return Err(Error::Refused {
                        command: self.name,
                        code,
                    });
                }
            }
        }
        Err(Error::Refused {
            command: self.name,
            code: code::LATER[2],
        })
    }

    /// The response, or its code when it is a refusal.
    fn read(&self, answer: &[u8]) -> Result<Result<Response, u32>, &'static str> {
        let mut reader = Reader::new(answer);
        let tag = reader.u16("its tag")?;
        let length = reader.u32("its length")?;
        let code = reader.u32("its code")?;
        if answer.len() > LARGEST_MESSAGE || usize::try_from(length) != Ok(answer.len()) {
            return Err("its length");
        }
        if code != 0 {
            return Ok(Err(code));
        }
        let expected = if self.auth == Auth::None {
            NO_SESSIONS
        } else {
            SESSIONS
        };
        if tag != expected {
            return Err("its tag");
        }
        let handle = if self.gives_handle {
            Some(reader.u32("its handle")?)
        } else {
            None
        };
        let parameters = if tag == SESSIONS {
            let length = reader.u32("its parameters")?;
            reader.take(
                usize::try_from(length).unwrap_or(usize::MAX),
                "its parameters",
            )?
        } else {
            reader.rest()
        };
        Ok(Ok(Response {
            handle,
            parameters: parameters.to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io;

    /// Gives answers made beforehand.
    struct Script(Vec<Vec<u8>>);

    impl Transport for Script {
        fn transact(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
            self.0
                .pop()
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn command(auth: Auth, gives_handle: bool) -> Command<'static> {
        Command {
            name: "test",
            code: 0x17b,
            handles: &[],
            auth,
            parameters: Writer::default(),
            gives_handle,
        }
    }

    fn answer(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(10 + body.len()).expect("short");
        Writer::default()
            .u16(tag)
            .u32(length)
            .u32(code)
            .bytes(body)
            .finish()
    }

    #[test]
    fn a_command_has_its_header_handles_and_authorization() {
        let mut command = command(Auth::EmptyPassword, false);
        command.handles = &[0x4000_0001];
        command.parameters = Writer::default().u8(7);
        let expected = [
            &[0x80, 2, 0, 0, 0, 28, 0, 0, 1, 0x7b][..],
            &[0x40, 0, 0, 1],
            &[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0],
            &[7],
        ];
        assert_eq!(command.write(), expected.concat());
        command.auth = Auth::None;
        assert_eq!(
            command.write(),
            [0x80, 1, 0, 0, 0, 15, 0, 0, 1, 0x7b, 0x40, 0, 0, 1, 7]
        );
    }

    #[test]
    fn responses_are_taken_apart() {
        let sound = answer(SESSIONS, 0, &[0x80, 0, 0, 1, 0, 0, 0, 2, 5, 6, 0, 0, 0]);
        let got = command(Auth::EmptyPassword, true)
            .run(&mut Script(vec![sound.clone()]))
            .expect("sound");
        assert_eq!(
            got,
            Response {
                handle: Some(0x8000_0001),
                parameters: vec![5, 6]
            }
        );
        let plain = answer(NO_SESSIONS, 0, &[5, 6]);
        let got = command(Auth::None, false)
            .run(&mut Script(vec![plain]))
            .expect("sound");
        assert_eq!(
            got,
            Response {
                handle: None,
                parameters: vec![5, 6]
            }
        );
        for (what, bytes) in [
            ("nothing", vec![]),
            ("a header cut off", sound[..9].to_vec()),
            ("a wrong length", sound[..sound.len() - 1].to_vec()),
            ("another tag", answer(NO_SESSIONS, 0, &[0; 13])),
            ("no handle", answer(SESSIONS, 0, &[1])),
            (
                "parameters beyond its end",
                answer(SESSIONS, 0, &[0x80, 0, 0, 1, 0, 0, 0, 9, 5]),
            ),
            ("too long", answer(SESSIONS, 0, &[0; LARGEST_MESSAGE])),
        ] {
            let got = command(Auth::EmptyPassword, true).run(&mut Script(vec![bytes]));
            assert!(
                matches!(got, Err(Error::Malformed { .. })),
                "{what}: {got:?}"
            );
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let run = |codes: &[u32]| {
            let answers = codes
                .iter()
                .rev()
                .map(|c| answer(NO_SESSIONS, *c, &[]))
                .collect();
            command(Auth::None, false).run(&mut Script(answers))
        };
        assert!(run(&[0x922, 0x908, 0]).is_ok(), "later");
        assert!(matches!(run(&[0x921]), Err(Error::LockedOut)));
        assert!(matches!(
            run(&[0x99d]),
            Err(Error::Refused { code: 0x99d, .. })
        ));
        assert!(matches!(run(&[]), Err(Error::Unreachable { .. })));
        assert_eq!(code::plain(0x99d), code::POLICY_FAIL);
        assert_eq!(code::plain(0x1df), code::INTEGRITY);
        assert_eq!(code::plain(0x128), code::PCR_CHANGED);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64), sessions: bool, handle: bool) {
            let auth = if sessions { Auth::EmptyPassword } else { Auth::None };
            let _ = command(auth, handle).read(&bytes);
            let tag = if sessions { SESSIONS } else { NO_SESSIONS };
            let _ = command(auth, handle).read(&answer(tag, 0, &bytes));
        }
    }
}
