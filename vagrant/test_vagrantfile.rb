# frozen_string_literal: true

# The Vagrantfile without Vagrant: run against objects that take the settings
# that Vagrant, its virtualbox provider and vagrant-libvirt have, and no others.
#
#   ruby vagrant/test_vagrantfile.rb

# Keeps what is set; a setting it does not know is an error.
class Settings
  def initialize(*names)
    @names = names
    @set = {}
  end

  attr_reader :set

  def method_missing(name, *args)
    key = name.to_s.delete_suffix("=").to_sym
    return @set[key] if args.empty? && @set.key?(key)
    raise "Vagrant has no setting #{key}" unless @names.include?(key)

    @set[key] = args.first
  end

  def respond_to_missing?(*)
    true
  end
end

# config.vm
class Machine < Settings
  PROVIDERS = {
    virtualbox: %i[cpus memory gui name linked_clone],
    libvirt: %i[cpus memory cpu_mode driver machine_virtual_size]
  }.freeze

  attr_reader :folders, :provisioners, :providers, :disks

  def initialize
    super(:box, :box_version, :guest, :hostname, :boot_timeout, :base_mac)
    @folders = {}
    @provisioners = {}
    @providers = {}
    @disks = []
  end

  def synced_folder(from, to, **options)
    @folders[to] = options.merge(from: from)
  end

  def provision(name, **options)
    @provisioners[name] = options
  end

  def disk(kind, **options)
    @disks << options.merge(kind: kind)
  end

  # As Vagrant does, with settings for that provider alone.
  def provider(name, &block)
    settings = Settings.new(*PROVIDERS.fetch(name))
    override = Config.new
    block.arity == 1 ? block.call(settings) : block.call(settings, override)
    @providers[name] = [settings, override]
  end
end

Config = Struct.new(:vm, :ssh) do
  def initialize
    super(Machine.new, Settings.new(:shell))
  end
end

# What a Vagrantfile calls.
module Vagrant
  class << self
    attr_reader :config

    def require_version(*wanted)
      raise "no version: #{wanted}" unless wanted.all? { |v| v.match?(/\A>= \d+\.\d+\.\d+\z/) }
    end

    def configure(version)
      raise "version #{version}" unless version == "2"

      @config = Config.new
      yield @config
    end
  end
end

def must(what, truth)
  abort "test_vagrantfile: #{what}" unless truth
end

def evaluate(environment = {})
  %w[LWC_BOX LWC_CPUS LWC_MEMORY].each { |name| ENV.delete(name) }
  ENV.update(environment)
  %i[BOX CPUS MEMORY_MIB DISK_GB].each do |name|
    Object.send(:remove_const, name) if Object.const_defined?(name)
  end
  load File.join(__dir__, "Vagrantfile")
  Vagrant.config
end

config = evaluate
vm = config.vm
must "the project's own box", vm.set[:box] == "freebsd/FreeBSD-15.1-RELEASE"
must "a guest that Vagrant is told of", vm.set[:guest] == :freebsd
must "sh, the only shell of the box", config.ssh.set[:shell] == "sh"
must "both providers", vm.providers.keys.sort == %i[libvirt virtualbox]
vm.providers.each do |name, (settings, _)|
  must "#{name}: two processors", settings.set[:cpus] == 2
  must "#{name}: memory for rustc", settings.set[:memory] >= 4096
end
must "libvirt: room", vm.providers[:libvirt][0].set[:machine_virtual_size] >= 30
override = vm.providers[:virtualbox][1].vm
must "virtualbox: the box's address", override.set[:base_mac] =~ /\A080027\h{6}\z/
must "virtualbox: room", override.disks.any? { |d| d[:primary] && d[:size].to_i >= 30 }
must "nothing but this repository", vm.folders["/vagrant"][:disabled]

folder = vm.folders.reject { |_, options| options[:disabled] }
must "one folder", folder.size == 1
target, options = folder.first
must "by rsync", options[:type] == "rsync"
from = File.expand_path(options[:from], __dir__)
must "the repository", File.exist?(File.join(from, "Cargo.toml"))
must "without what is built", options[:rsync__exclude].include?("target/")

must "one provisioner", vm.provisioners.size == 1
script = vm.provisioners.values.first
must "a shell one, not as root", script[:type] == "shell" && script[:privileged] == false
must "in the folder", script[:inline].start_with?("#{target}/")
must "which is there and can be run",
     File.executable?(File.join(from, script[:inline].delete_prefix(target)))

vm = evaluate("LWC_BOX" => "other/box", "LWC_CPUS" => "7", "LWC_MEMORY" => "9000").vm
must "another box", vm.set[:box] == "other/box"
must "another size", vm.providers.values.all? { |s, _| s.set[:cpus] == 7 && s.set[:memory] == 9000 }
begin
  evaluate("LWC_MEMORY" => "4 GiB")
  abort "test_vagrantfile: takes 4 GiB for a number"
rescue ArgumentError => e
  must "which value is wrong", e.message.include?("4 GiB")
end
puts "the Vagrantfile is good"
