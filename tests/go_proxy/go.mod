module example.com/atelier/go_proxy

go 1.24
