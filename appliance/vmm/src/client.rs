//! The daemon's end of a control socket. Needs a tokio runtime, which a vmm process never has.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::protocol::{
    Action, Answer, CONSOLE_INPUT_MAX, Event, Message, Request, Status, decode, encode,
};

/// A vmm answers within microseconds; after this long something is wrong with it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way on one connection.
const REQUESTS_MAX: usize = 64;
/// Events not yet taken by the reader.
const EVENTS_MAX: usize = 1024;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The vmm has ended, or closed the connection.
    #[error("the vmm has closed its control connection")]
    Closed,
    /// It does not answer.
    #[error("the vmm has not answered within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    /// It refused.
    #[error("the vmm refused: {0}")]
    Refused(String),
    /// It answered something else than what was asked.
    #[error("the vmm answered a request by something else: {0:?}")]
    Unexpected(Answer),
}

type Call = (Action, oneshot::Sender<Answer>);

/// Sends requests; clones share the connection. The connection ends when all clones and the [`Events`] are gone.
#[derive(Debug, Clone)]
pub struct Client {
    calls: mpsc::Sender<Call>,
}

/// The events of a connection, in order.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Event>,
}

/// Connects to the control socket at `path`. Events come after [`Client::subscribe`].
///
/// # Errors
/// Nothing listens there, or the caller may not connect.
pub async fn connect(path: &Path) -> io::Result<(Client, Events)> {
    Ok(open(UnixStream::connect(path).await?))
}

/// Speaks on a connected socket.
pub(crate) fn open(stream: UnixStream) -> (Client, Events) {
    let (calls, incoming) = mpsc::channel(REQUESTS_MAX);
    let (outgoing, events) = mpsc::channel(EVENTS_MAX);
    let conversation = Conversation {
        stream,
        inbox: Vec::new(),
        waiting: BTreeMap::new(),
        next_id: 0,
        events: outgoing,
    };
    tokio::spawn(conversation.run(incoming));
    (Client { calls }, Events { events })
}

impl Client {
    /// Asks and waits for the answer, which is never [`Answer::Refused`].
    ///
    /// # Errors
    /// The connection is gone, or the vmm does not answer or refuses.
    pub async fn request(&self, action: Action) -> Result<Answer, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.calls
            .send((action, reply))
            .await
            .map_err(|_| ClientError::Closed)?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(Answer::Refused { reason })) => Err(ClientError::Refused(reason)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ClientError::Closed),
            Err(_) => Err(ClientError::Timeout),
        }
    }

    /// How the machine is.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        match self.request(Action::Status).await? {
            Answer::Status(status) => Ok(status),
            other => Err(ClientError::Unexpected(other)),
        }
    }

    /// Does something that has no other answer than that it was done.
    async fn perform(&self, action: Action) -> Result<(), ClientError> {
        match self.request(action).await? {
            Answer::Done => Ok(()),
            other => Err(ClientError::Unexpected(other)),
        }
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// As [`Client::request`]; refused while paused.
    pub async fn press_power_button(&self) -> Result<(), ClientError> {
        self.perform(Action::PowerButton).await
    }

    /// Halts the vCPUs.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn pause(&self) -> Result<(), ClientError> {
        self.perform(Action::Pause).await
    }

    /// Lets the vCPUs go on.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn resume(&self) -> Result<(), ClientError> {
        self.perform(Action::Resume).await
    }

    /// Ends the machine at once; the last event tells when.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn shut_down(&self) -> Result<(), ClientError> {
        self.perform(Action::Shutdown).await
    }

    /// Asks for events from now on, with or without those about console output.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn subscribe(&self, console_output: bool) -> Result<(), ClientError> {
        self.perform(Action::Subscribe { console_output }).await
    }

    /// Types on the console; returns how many of the bytes were taken. The rest did not fit: try it later.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn type_in(&self, bytes: &[u8]) -> Result<usize, ClientError> {
        let mut taken = 0;
        for piece in bytes.chunks(CONSOLE_INPUT_MAX) {
            let action = Action::ConsoleInput {
                bytes: piece.to_vec(),
            };
            let accepted = match self.request(action).await? {
                Answer::Accepted { bytes } => bytes,
                other => return Err(ClientError::Unexpected(other)),
            };
            taken += accepted;
            if accepted < piece.len() {
                break;
            }
        }
        Ok(taken)
    }
}

impl Events {
    /// The next event; `None` once the connection has ended. Console output events are dropped when nobody takes
    /// events for long; if others would have to be, the connection ends.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// The task that owns a connection.
struct Conversation {
    stream: UnixStream,
    inbox: Vec<u8>,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    next_id: u64,
    events: mpsc::Sender<Event>,
}

impl Conversation {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let mut asking = true;
        loop {
            tokio::select! {
                call = calls.recv(), if asking => match call {
                    Some(call) => if self.ask(call).await.is_err() {
                        return;
                    },
                    None => asking = false,
                },
                read = self.stream.read_buf(&mut self.inbox) => {
                    if !matches!(read, Ok(1..)) || self.dispatch().is_err() {
                        return;
                    }
                }
                () = self.events.closed(), if !asking => return,
            }
        }
    }

    async fn ask(&mut self, (action, reply): Call) -> io::Result<()> {
        self.waiting.retain(|_, reply| !reply.is_closed());
        let id = self.next_id;
        self.next_id += 1;
        let frame = encode(&Request { id, action })?;
        self.waiting.insert(id, reply);
        // The vmm never waits for us, so it reads this whatever it has to say meanwhile.
        self.stream.write_all(&frame).await
    }

    fn dispatch(&mut self) -> io::Result<()> {
        while let Some(message) = decode(&mut self.inbox)? {
            match message {
                Message::Reply { id, answer } => {
                    if let Some(reply) = self.waiting.remove(&id) {
                        // Who asked may have given up.
                        let _ = reply.send(answer);
                    }
                }
                Message::Event { event } => match self.events.try_send(event) {
                    Err(mpsc::error::TrySendError::Full(Event::ConsoleOutput { .. })) | Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        return Err(io::Error::other("nobody takes the events"));
                    }
                    // Requests may still be made when nobody wants events.
                    Err(mpsc::error::TrySendError::Closed(_)) => {}
                },
            }
        }
        Ok(())
    }
}
