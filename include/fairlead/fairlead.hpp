// fairlead: everything. Each header also stands alone.

#ifndef FAIRLEAD_FAIRLEAD_HPP
#define FAIRLEAD_FAIRLEAD_HPP

#include <fairlead/config.hpp>
#include <fairlead/connection.hpp>
#include <fairlead/deadline_wheel.hpp>
#include <fairlead/error.hpp>
#include <fairlead/event.hpp>
#include <fairlead/handler.hpp>
#include <fairlead/hooks.hpp>
#include <fairlead/serve.hpp>
#include <fairlead/server.hpp>
#include <fairlead/sharded_server.hpp>
#include <fairlead/signals.hpp>
#include <fairlead/tls.hpp>
#include <fairlead/version.hpp>

#endif // FAIRLEAD_FAIRLEAD_HPP
