// gRPC over a Unix socket in the abstract namespace: one call whose two directions are streams, which costs less for each
// message than a call for each would. Its synchronous interface; its threads start in each side, on that side's CPU.
#include <grpcpp/grpcpp.h>

#include <future>

#include "driver.hpp"
#include "grpc.grpc.pb.h"

using namespace peers;

static std::string address(const Job &job) { return "unix-abstract:" + job.name; }

/// Hands the stream of the one call to the thread that measures, and keeps the call open until that is done.
class Service final : public wire::Exchange::Service {
 public:
  using Stream = grpc::ServerReaderWriter<wire::Bytes, wire::Bytes>;
  std::promise<Stream *> opened;
  std::promise<void> finished;

  grpc::Status Pass(grpc::ServerContext *, Stream *stream) override {
    opened.set_value(stream);
    finished.get_future().wait();
    return grpc::Status::OK;
  }
};

class StreamEnd {
 public:
  StreamEnd(Side side, Job &job) : source_(job.size), target_(job.size), size_(job.size) {
    if (side == Side::consumer) {
      grpc::ServerBuilder builder;
      builder.AddListeningPort(address(job), grpc::InsecureServerCredentials());
      builder.RegisterService(&service_);
      server_ = builder.BuildAndStart();
      if (server_ == nullptr) fail(job, "gRPC does not listen");
      serving_ = service_.opened.get_future().get();
      return;
    }
    grpc::ChannelArguments arguments;
    for (const char *name : {GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, GRPC_ARG_MIN_RECONNECT_BACKOFF_MS}) {
      arguments.SetInt(name, 10);  // the other side listens soon
    }
    stub_ = wire::Exchange::NewStub(
        grpc::CreateCustomChannel(address(job), grpc::InsecureChannelCredentials(), arguments));
    context_.set_wait_for_ready(true);
    calling_ = stub_->Pass(&context_);
  }

  ~StreamEnd() {
    if (calling_ != nullptr) {
      calling_->WritesDone();
      calling_->Finish();
    } else {
      service_.finished.set_value();
      server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
    }
  }

  uint8_t *source() { return source_.data(); }

  void send() {
    outgoing_.set_value(source_.data(), size_);
    if (!(serving_ != nullptr ? serving_->Write(outgoing_) : calling_->Write(outgoing_))) peers_die("gRPC does not write");
  }

  void flush() {}

  const uint8_t *receive() {
    if (!(serving_ != nullptr ? serving_->Read(&incoming_) : calling_->Read(&incoming_))) peers_die("gRPC does not read");
    if (incoming_.value().size() != size_) peers_die("gRPC: %zu bytes instead of %zu", incoming_.value().size(), size_);
    memcpy(target_.data(), incoming_.value().data(), size_);
    return target_.data();
  }

 private:
  Buffer source_, target_;
  size_t size_;
  wire::Bytes outgoing_, incoming_;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  Service::Stream *serving_ = nullptr;
  grpc::ClientContext context_;
  std::unique_ptr<wire::Exchange::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<wire::Bytes, wire::Bytes>> calling_;
};

int main(int argc, char **argv) {
  const char *note = "messages of one field in the two streams of one call, over a Unix socket; copies: into the message, into gRPC, through the kernel's socket, out of both; a side's own thread and gRPC's share its CPU";
  Peer peer = {"grpc", Placement::processes, 0, messageCases<StreamEnd>(note)};
  return run(peer, argc, argv);
}
