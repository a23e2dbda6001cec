# What Cap'n Proto is measured with: a call that is answered, and one whose caller goes on as the window allows.
@0xd3b1c9a2f4e58671;

interface Exchange {
  call @0 (value :Data) -> (value :Data);
  pass @1 (value :Data) -> stream;
}
